/*
 * TLS: our own small certificate authority, by OpenSSL's X.509 functions.
 *
 * P-256 keys: every client has them, and making one takes no time. A key is written before the
 * certificate that names it, each in one rename: a pair that does not belong together (a crash
 * between the two) is found by X509_check_private_key() and made again.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY	       (24L * 3600)
#define CA_DAYS	       3650
#define SERVER_DAYS    397 /* what browsers accept at most */
#define RENEW_DAYS     30
#define FILE_BYTES_MAX (256 * 1024)

OWN_DEFINE(EVP_PKEY *, EVP_PKEY_free);
OWN_DEFINE(X509 *, X509_free);

void tls_files_clear(struct tls_files *t)
{
	free(t->key);
	free(t->certificate);
	*t = (struct tls_files){0};
}

static int read_text(const char *path, char **ret_text)
{
	OWN(fclose) FILE *in = fopen(path, "re");
	OWN(free) char *text = calloc(1, FILE_BYTES_MAX);
	if (!in)
		return -errno;
	if (!text)
		return -ENOMEM;
	size_t n = fread(text, 1, FILE_BYTES_MAX - 1, in);
	if (ferror(in) || !feof(in))
		return ferror(in) ? -EIO : -EFBIG;
	text[n] = '\0';
	*ret_text = give(text);
	return 0;
}

int tls_load(const char *certificate_path, const char *key_path, struct tls_files *ret_files)
{
	OWN(tls_files_clear) struct tls_files files = {0};
	int r = read_text(certificate_path, &files.certificate);
	if (r == 0)
		r = read_text(key_path, &files.key);
	if (r < 0)
		return r;
	*ret_files = files;
	files = (struct tls_files){0};
	return 0;
}

/* One PEM object to a file of this mode, by way of a new file and a rename. */
static int write_pem(const char *path, mode_t mode, EVP_PKEY *key, X509 *certificate)
{
	char new_path[560];
	if ((size_t)snprintf(new_path, sizeof(new_path), "%s.new", path) >= sizeof(new_path))
		return -ENAMETOOLONG;
	OWN(fd_close)
	int fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return -errno;
	FILE *out = fdopen(fd, "w");
	if (!out)
		return -errno;
	(void)give(fd);
	int ok = key ? PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL)
		     : PEM_write_X509(out, certificate);
	ok = ok && fflush(out) == 0 && fsync(fileno(out)) == 0;
	if (fclose(out) != 0 || !ok)
		return -EIO;
	return rename(new_path, path) < 0 ? -errno : 0;
}

static EVP_PKEY *read_key(const char *path)
{
	OWN(fclose) FILE *in = fopen(path, "re");
	return in ? PEM_read_PrivateKey(in, NULL, NULL, NULL) : NULL;
}

static X509 *read_certificate(const char *path)
{
	OWN(fclose) FILE *in = fopen(path, "re");
	return in ? PEM_read_X509(in, NULL, NULL, NULL) : NULL;
}

static int add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	int ok = e && X509_add_ext(certificate, e, -1);
	X509_EXTENSION_free(e);
	return ok;
}

static int set_serial(X509 *certificate)
{
	BIGNUM *n = BN_new();
	int ok = n && BN_rand(n, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
		 BN_to_ASN1_INTEGER(n, X509_get_serialNumber(certificate));
	BN_free(n);
	return ok;
}

/* What a certificate of the authority and of the server have in common. */
static X509 *certificate_new(EVP_PKEY *key, const char *common_name, int n_days)
{
	OWN(X509_free) X509 *c = X509_new();
	if (!c || !X509_set_version(c, 2) || !set_serial(c) ||
	    !X509_gmtime_adj(X509_getm_notBefore(c), -DAY) ||
	    !X509_gmtime_adj(X509_getm_notAfter(c), n_days * DAY) || !X509_set_pubkey(c, key))
		return NULL;
	X509_NAME *name = X509_get_subject_name(c);
	if (!X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Gureum",
					-1, -1, 0) ||
	    !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
					(const unsigned char *)common_name, -1, -1, 0))
		return NULL;
	return give(c);
}

static X509 *make_ca(EVP_PKEY *key)
{
	OWN(X509_free) X509 *c = certificate_new(key, "Gureum local CA", CA_DAYS);
	if (!c || !X509_set_issuer_name(c, X509_get_subject_name(c)) ||
	    !add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
	    !add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") ||
	    !add_extension(c, c, NID_subject_key_identifier, "hash") ||
	    !X509_sign(c, key, EVP_sha256()))
		return NULL;
	return give(c);
}

static X509 *make_server(EVP_PKEY *key, const char *names, X509 *ca, EVP_PKEY *ca_key)
{
	OWN(X509_free) X509 *c = certificate_new(key, "gureum", SERVER_DAYS);
	if (!c || !X509_set_issuer_name(c, X509_get_subject_name(ca)) ||
	    !add_extension(c, ca, NID_basic_constraints, "critical,CA:FALSE") ||
	    !add_extension(c, ca, NID_key_usage, "critical,digitalSignature") ||
	    !add_extension(c, ca, NID_ext_key_usage, "serverAuth") ||
	    !add_extension(c, ca, NID_subject_alt_name, names) ||
	    !add_extension(c, ca, NID_authority_key_identifier, "keyid") ||
	    !X509_sign(c, ca_key, EVP_sha256()))
		return NULL;
	return give(c);
}

static int is_fresh(X509 *certificate, EVP_PKEY *key)
{
	time_t later = time(NULL) + RENEW_DAYS * DAY;
	return certificate && key && X509_check_private_key(certificate, key) == 1 &&
	       X509_cmp_time(X509_get0_notAfter(certificate), &later) > 0;
}

/* "": this host has none. */
static void own_name(char ret_name[static 256])
{
	memset(ret_name, 0, 256);
	if (gethostname(ret_name, 255) < 0)
		ret_name[0] = '\0';
}

/* "DNS:localhost,IP:127.0.0.1,…" */
static void alternative_names(const char *host, char *ret_names, size_t n)
{
	char hostname[256];
	unsigned char address[16];
	own_name(hostname);
	size_t at =
		(size_t)snprintf(ret_names, n, "DNS:localhost,DNS:*.localhost,IP:127.0.0.1,IP:::1");
	if (hostname[0])
		at += (size_t)snprintf(ret_names + at, n - at, ",DNS:%s", hostname);
	if (!host[0] || at >= n)
		return;
	int is_address =
		inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
	(void)snprintf(ret_names + at, n - at, ",%s:%s", is_address ? "IP" : "DNS", host);
}

static int has_name(X509 *certificate, const char *host)
{
	return !host[0] || X509_check_ip_asc(certificate, host, 0) == 1 ||
	       X509_check_host(certificate, host, 0, 0, NULL) == 1;
}

static int has_names(X509 *certificate, const char *host)
{
	char hostname[256];
	own_name(hostname);
	return has_name(certificate, host) && has_name(certificate, hostname);
}

struct pair {
	char key_path[512], certificate_path[512];
	EVP_PKEY *key;
	X509 *certificate;
};
static void own_pair_clear(struct pair *p)
{
	EVP_PKEY_free(p->key);
	X509_free(p->certificate);
}

static int pair_read(struct pair *p, const char *folder, const char *name)
{
	if ((size_t)snprintf(p->key_path, sizeof(p->key_path), "%s/%s.key", folder, name) >=
		    sizeof(p->key_path) ||
	    (size_t)snprintf(p->certificate_path, sizeof(p->certificate_path), "%s/%s.pem", folder,
			     name) >= sizeof(p->certificate_path))
		return -ENAMETOOLONG;
	p->key = read_key(p->key_path);
	p->certificate = read_certificate(p->certificate_path);
	return 0;
}

/* A new pair: the server's is signed by `ca`, the authority's (ca NULL) by itself. */
static int pair_make(struct pair *p, const struct pair *ca, const char *names)
{
	EVP_PKEY_free(p->key);
	X509_free(p->certificate);
	p->certificate = NULL;
	p->key = EVP_EC_gen("P-256");
	if (p->key)
		p->certificate =
			ca ? make_server(p->key, names, ca->certificate, ca->key) : make_ca(p->key);
	if (!p->certificate)
		return -EIO;
	int r = write_pem(p->key_path, 0600, p->key, NULL);
	return r < 0 ? r : write_pem(p->certificate_path, 0644, NULL, p->certificate);
}

int tls_make(const char *state_dir, const char *host, struct tls_files *ret_files)
{
	OWN(pair_clear) struct pair ca = {0}, server = {0};
	char folder[300], names[1024];
	if ((size_t)snprintf(folder, sizeof(folder), "%s/tls", state_dir) >= sizeof(folder))
		return -ENAMETOOLONG;
	if (mkdir(folder, 0755) < 0 && errno != EEXIST)
		return -errno;
	int r = pair_read(&ca, folder, "ca");
	if (r == 0)
		r = pair_read(&server, folder, "server");
	if (r == 0 && !is_fresh(ca.certificate, ca.key))
		r = pair_make(&ca, NULL, NULL);
	if (r < 0)
		return r;
	if (!is_fresh(server.certificate, server.key) ||
	    X509_verify(server.certificate, ca.key) != 1 || !has_names(server.certificate, host)) {
		alternative_names(host, names, sizeof(names));
		r = pair_make(&server, &ca, names);
		if (r < 0)
			return r;
	}
	return tls_load(server.certificate_path, server.key_path, ret_files);
}
