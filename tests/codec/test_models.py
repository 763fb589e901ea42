"""The generator: what it lays over the models, and what it refuses."""
import json
import os

from test_json import generate


def overlaid(tmp_path, patch):
    overlay = tmp_path / "overlay.json"
    overlay.write_text(json.dumps(patch))
    result = generate(tmp_path / "gen", "--overlay", str(overlay), "--service", "sts:2011-06-15")
    assert result.returncode == 0, result.stderr
    return (tmp_path / "gen" / "aws-tables.c").read_text()


def test_an_overlay_adds_actions_members_and_values(tmp_path):
    text = overlaid(tmp_path, {"sts": {
        "operations": {"AssumeTomorrow": {"name": "AssumeTomorrow", "http": {"method": "POST", "requestUri": "/"}, "input": {"shape": "TomorrowRequest"}}},
        "shapes": {
            "TomorrowRequest": {"type": "structure", "members": {"DayOfWeek": {"shape": "Day"}}},
            "Day": {"type": "string", "enum": ["Monday", "Tuesday"]},
            "AssumeRoleRequest": {"members": {"Weather": {"shape": "Day"}}},
        },
    }})
    for name in ("AssumeTomorrow", "DayOfWeek", "Weather", "Monday", "RoleSessionName"):
        assert f'"{name}\\000"' in text or f'{name}\\0"' in text


def test_null_takes_away(tmp_path):
    text = overlaid(tmp_path, {"sts": {"operations": {"GetAccessKeyInfo": None}}})
    assert "GetAccessKeyInfo" not in text and "GetCallerIdentity" in text


def test_lists_grow(tmp_path):
    text = overlaid(tmp_path, {"sts": {"shapes": {"AssumeRoleRequest": {"required": ["ExternalId"]}}}})
    assert text != overlaid(tmp_path, {})


def test_the_same_models_give_the_same_tables(tmp_path):
    assert overlaid(tmp_path, {}) == overlaid(tmp_path, {})


def test_an_overlay_of_a_service_that_is_not_ours_is_refused(tmp_path):
    overlay = tmp_path / "overlay.json"
    overlay.write_text('{"sqs": {}}')
    result = generate(tmp_path, "--overlay", str(overlay))
    assert result.returncode != 0 and "sqs" in result.stderr
    assert not os.path.exists(tmp_path / "aws-tables.c")


def test_a_model_that_is_not_there_is_named(tmp_path):
    result = generate(tmp_path, "--service", "ec2:1999-01-01")
    assert result.returncode != 0 and "python3-botocore" in result.stderr
