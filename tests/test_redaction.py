"""Credentials in text: struck out wherever a URI may hold one, and values of the environment shown as their reference."""

import pickle

import pytest

from interformer_rec import redaction
from interformer_rec.errors import DamagedError, InputError


@pytest.fixture(autouse=True)
def _nothing_hidden():
    redaction.forget()
    yield
    redaction.forget()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("s3://key:secret@bucket/a", "s3://***@bucket/a"),
        ("cannot open 's3://key:se/cr@et@bucket/a?region=x': no", "cannot open 's3://***@bucket/a?region=x': no"),
        ("s3://key:se?cret@bucket/a", "s3://***@bucket/a"),
        ("s3://key:12/secret@bucket", "s3://***@bucket"),
        ("https://token@host/a, sftp://me:p'w@host/b", "https://***@host/a, sftp://***@host/b"),
        ("redis://:secret@host", "redis://***@host"),
        ("filecache::s3://key:secret@bucket/a", "filecache::s3://***@bucket/a"),
        ("s3://b/a?access_key=A&secret_key=B&region=c", "s3://b/a?access_key=***&secret_key=***&region=c"),
        ("abfs://box@account/a?sv=1&sig=x%2Fy%3D", "abfs://box@account/a?sv=1&sig=***"),
        ("az://box/a?sas_token=sv=1&sig=2", "az://box/a?sas_token=***&sig=***"),
        (
            "https://host/a?X-Amz-Signature=1&X-Amz-Credential=2&X-Amz-Date=3&X-Amz-Security-Token=4",
            "https://host/a?X-Amz-Signature=***&X-Amz-Credential=***&X-Amz-Date=3&X-Amz-Security-Token=***",
        ),
        ("the query ?token=1&api_key=2;password=3", "the query ?token=***&api_key=***;password=***"),
    ],
)
def test_credentials_are_struck_out(text, shown):
    assert redaction.redact(text) == shown
    assert redaction.redact(shown) == shown
    assert str(InputError(f"no: {text}")) == f"no: {shown}"


@pytest.mark.parametrize(
    "text",
    [
        "hdfs://namenode:8020/user@corp/a",
        "hdfs://user@namenode:8020/a",
        "abfs://container@account.dfs.core.windows.net/a",
        "s3://bucket/date=2020:01@x/a?endpoint_override=localhost:9000&scheme=http",
        "s3://bucket/a?versionId=5",
        "s3://${KEY}:${SECRET}@bucket/a?sig=${SIG}",
        "a: b@c, what? key=value",
    ],
)
def test_what_is_no_credential_stays(text):
    assert redaction.redact(text) == text and ("${" in text or list(redaction.credentials(text)) == [])


def test_a_hidden_value_is_shown_as_its_reference_also_percent_encoded():
    redaction.hide("pass/word+1", "${SECRET}")
    assert redaction.redact("a pass/word+1 b pass%2Fword%2B1 c") == "a ${SECRET} b ${SECRET} c"
    redaction.hide("short")  # a word of many messages
    assert redaction.redact("short") == "short"


@pytest.mark.parametrize("value", ["results", "202411", "/data/run1", "./results"])
def test_a_word_a_number_or_a_path_is_replaced_where_it_is_whole(value):
    redaction.hide(value, "${OUT}")
    text = f"no {value}, {value!r}, {value}/a, file://{value}: but {value}0 and {value}x"
    assert redaction.redact(text) == f"no ${{OUT}}, '${{OUT}}', ${{OUT}}/a, file://${{OUT}}: but {value}0 and {value}x"
    assert redaction.redact(f"a%2F{value}%2F") == "a%2F${OUT}%2F"
    redaction.hide("training", "${NAME}")
    assert (
        redaction.redact("runs/training: training.epochs is 0, in training.")
        == "runs/${NAME}: training.epochs is 0, in ${NAME}."
    )
    redaction.hide("s3cretKey", "${KEY}")  # may be a secret, so it is hidden wherever it is
    assert redaction.redact("as3cretKeyb") == "a${KEY}b"


def test_a_library_that_quotes_the_password_alone():
    redaction.hide_credentials("s3://key:Passw0rd!@bucket")
    assert str(InputError("InvalidSecret: Passw0rd! is wrong")) == "InvalidSecret: *** is wrong"


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(DamagedError("no s3://a:b@c")))
    assert isinstance(error, DamagedError) and str(error) == "no s3://***@c"
