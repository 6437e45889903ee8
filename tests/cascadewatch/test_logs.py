"""What is logged, and what never is."""

import json
import subprocess
import sys

PROGRAM = """
import logging, sys
import structlog
from cascadewatch.logs import configure_logs, show_uncaught
from connectors.secrets import SECRETS

KEY = "0123456789abcdef-" + "planted-key"
SECRETS.know([KEY, 'quo"ted-key'])
configure_logs("info", to_file=None)
log = structlog.get_logger("test")
log.info("asked", url="https://a.example/" + KEY, places=[{KEY: (KEY, 1)}], quoted='quo"ted-key')
logging.getLogger("library").warning("no answer from https://a.example/%s", KEY)


def connect(password):
    raise ValueError("refused: " + password)


try:
    connect(KEY)
except ValueError:
    log.exception("failed")
sys.excepthook = show_uncaught
connect(KEY)
"""


def test_no_secret_is_in_a_log_line_a_librarys_line_or_a_traceback():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    asked, library, failed, *uncaught = ended.stderr.splitlines()
    line = json.loads(asked)
    assert (line["event"], line["url"], line["quoted"]) == ("asked", "https://a.example/…", "…")
    assert line["places"] == [{"…": ["…", 1]}]
    assert library == "no answer from https://a.example/…"
    assert json.loads(failed)["exception"][0]["exc_value"] == "refused: …"
    assert all("locals" not in frame for frame in json.loads(failed)["exception"][0]["frames"])
    assert uncaught[-1] == "ValueError: refused: …"
    assert "planted-key" not in ended.stderr.replace('"planted-key"', "")  # the source line that a traceback shows
