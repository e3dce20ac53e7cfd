"""Files on Slack: a picture is uploaded without a channel, so that it appears in a message's block and nowhere else.

Such a file is private to the bot until a message of the bot shows it; then the members of that channel see it.
Source: https://docs.slack.dev/messaging/working-with-files and
https://docs.slack.dev/reference/block-kit/composition-objects/slack-file-object
"""

from typing import Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.formatting import cut
from cheapdeep_ops.guard.notify.http_endpoint import HttpEndpoint
from cheapdeep_ops.guard.notify.sender import Upload
from cheapdeep_ops.guard.notify.slack_history import code_of

SCOPE: Final = "files:write"
"""The scope that a bot needs to upload and delete files."""

_NAME: Final = "incident.png"
_TITLE: Final = "The incident's chart"
_LONGEST_TEXT: Final = 1_000
"""Characters of a file's description. Source: https://docs.slack.dev/reference/methods/files.getUploadURLExternal"""

_STAYS: Final = frozenset(
    {"file_not_found", "file_deleted", "cant_delete_file", "delete_not_allowed", "file_deleting_disabled"}
)
"""The codes with which Slack has no such file, or keeps it.

Source: https://docs.slack.dev/reference/methods/files.delete#errors
"""


def begin_upload(client: WebClient, *, size: int, text: str) -> Upload:
    """Announce a PNG of `size` bytes. A file without content disappears by itself.

    `files_upload_v2` makes these three calls in one, and would tell the file's id only after the last. Raises
    SlackApiError, DeliveryError and what else slack_sdk raises.
    """
    answer = client.files_getUploadURLExternal(filename=_NAME, length=size, alt_txt=cut(text, _LONGEST_TEXT))
    file_id, url = answer.get("file_id"), answer.get("upload_url")
    if not file_id or not url:
        raise DeliveryError("Slack accepted a file but did not say where to send it")
    return Upload(file_id=str(file_id), url=str(url))


def finish_upload(client: WebClient, *, upload: Upload, content: bytes) -> None:
    """Send the content, and end the upload without a channel. Raises as `begin_upload`."""
    HttpEndpoint(upload.url, name="Slack's file store").post(content, {"Content-Type": "application/octet-stream"})
    client.files_completeUploadExternal(files=[{"id": upload.file_id, "title": _TITLE}])


def delete_file(client: WebClient, *, file_id: str) -> None:
    """Delete a file. Raises as `begin_upload`, except if it is gone or Slack keeps it."""
    try:
        client.files_delete(file=file_id)
    except SlackApiError as error:
        if code_of(error) not in _STAYS:
            raise
