/* What a request may choose of an instance both when it is launched and later: checked and
 * applied in one place. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "instance-rooms.h"

#define USER_DATA_BYTES_MAX 16384

ssize_t base64_length(const char *text)
{
	size_t n = 0, n_pad = 0;

	for (; *text; text++) {
		if (isspace((unsigned char)*text))
			continue;
		if (*text == '=')
			n_pad++;
		else if (n_pad || !(isalnum((unsigned char)*text) || *text == '+' || *text == '/'))
			return -EINVAL;
		n++;
	}
	if (n % 4 || n_pad > 2)
		return -EINVAL;
	return (ssize_t)(n / 4 * 3 - n_pad);
}

int user_data_check(const char *base64, struct fault *f)
{
	ssize_t n = base64_length(base64);

	if (n < 0)
		return fault_set(f, FAULT_INVALID_USER_DATA_MALFORMED,
				 "Invalid BASE64 encoding of user data");
	if (n > USER_DATA_BYTES_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "User data is limited to %d bytes", USER_DATA_BYTES_MAX);
	return 0;
}

int metadata_options_apply(json_t *options, const json_t *request, struct fault *f)
{
	static const char *const words[] = {"HttpTokens", "HttpEndpoint", "InstanceMetadataTags",
					    "HttpProtocolIpv6"};
	const json_t *limit = json_object_get(request, "HttpPutResponseHopLimit");

	if (limit && (json_integer_value(limit) < 1 || json_integer_value(limit) > 64))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid value '%lld' for HttpPutResponseHopLimit. It must be "
				 "between 1 and 64",
				 (long long)json_integer_value(limit));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (jstr(request, words[i]) && jset(options, words[i], jstr(request, words[i])) < 0)
			return -ENOMEM;
	return limit ? jset_new(options, "HttpPutResponseHopLimit",
				json_integer(json_integer_value(limit)))
		     : 0;
}

int instance_set_type(json_t *instance, const struct instance_type *type)
{
	unsigned n_threads = type->n_threads_per_core ? type->n_threads_per_core : 1;
	int r = jset(instance, "InstanceType", type->name);

	if (r == 0)
		r = jset_new(instance, "CpuOptions",
			     json_pack("{s:i, s:i}", "CoreCount", type->n_vcpus / n_threads,
				       "ThreadsPerCore", n_threads));
	/* AWS: T2 begins as standard, its successors as unlimited. */
	if (r == 0)
		r = jset(instance, "_CpuCredits",
			 !type->is_burstable		      ? NULL
			 : strncmp(type->name, "t2.", 3) == 0 ? "standard"
							      : "unlimited");
	return r;
}
