# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The part of the Hub's API that huggingface_hub uses for models and Spaces, as one function for each path.

Written after what the client sends and reads. Two hosts answer: the Hub itself, and the storage of large files, to
which the Hub sends clients with links that carry their own permission.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlencode

from hub.hub_storage import Commit, Repository, Storage, StoredFile, User, card_metadata
from huggingface_hub import ModelCardData


REPOSITORY = r"/api/(?P<kind>models|spaces|datasets)/(?P<name>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
RESOLVE = rf"/(?:(?P<kind>spaces|datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/{REVISION}/(?P<path>.+)"
LFS = r"/(?:(?P<kind>spaces|datasets)/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects"


@dataclass
class Request:
    method: str
    path: str  # with its query, as sent
    headers: dict[str, str]  # names in lower case
    body: bytes
    parameters: dict[str, str] = field(default_factory=dict)

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def query(self, name: str) -> str | None:
        return parse_qs(self.path.partition("?")[2]).get(name, [None])[0]


@dataclass
class Answer:
    content: bytes | dict | list = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """An answer of 4xx; `code` is the header by which the client tells its errors apart."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str):
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers
        self.answer = Answer({"error": message}, status, headers)


def repository_not_found(user: User | None) -> RefusedError:
    # the Hub tells strangers 401, so that they cannot find out which private repositories there are
    return RefusedError(404 if user else 401, "Repository not found", "RepoNotFound")


def route(method: str, pattern: str):
    """Mark what answers a path."""

    def mark(function):
        function.routes = [*getattr(function, "routes", ()), (method, re.compile(pattern))]
        return function

    return mark


class Api:
    """What both hosts share: finding the function for a request."""

    def __init__(self, storage: Storage, hub_url: str, storage_url: str):
        self.storage = storage
        self.hub_url = hub_url
        self.storage_url = storage_url
        functions = [getattr(self, name) for name in dir(type(self)) if hasattr(getattr(type(self), name), "routes")]
        self.routes = [(*route, function) for function in functions for route in function.routes]

    def answer(self, request: Request) -> Answer:
        for method, pattern, function in self.routes:
            match = pattern.fullmatch(request.path.partition("?")[0])
            if match and method == request.method:
                request.parameters = {key: unquote(value) for key, value in match.groupdict().items() if value}
                try:
                    with self.storage.lock:
                        return function(request)
                except RefusedError as refused:
                    return refused.answer
        return repository_not_found(None).answer if "/resolve/" in request.path else Answer(b"Not found", 404)


class HubApi(Api):
    """The Hub itself."""

    def user(self, request: Request) -> User | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.storage.users:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return self.storage.users.get(token)

    def writer(self, request: Request, owner: str | None = None) -> User:
        user = self.user(request)
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        if user.role != "write":
            raise RefusedError(403, "you must use a write token to do that")
        if owner not in (None, user.name):
            raise RefusedError(403, f'You don\'t have the rights to write under the namespace "{owner}"')
        return user

    def repository(self, request: Request, write: bool = False) -> Repository:
        user = self.user(request)
        found = self.storage.repositories.get((request.parameters.get("kind", "models"), request.parameters["name"]))
        if found is None or (found.private and (user is None or user.name != found.owner)):
            raise repository_not_found(user)
        if write:
            self.writer(request, found.owner)
        return found

    def commit_of(self, repository: Repository, revision: str) -> Commit:
        commit = repository.find(revision)
        if commit is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def page_of(self, repository: Repository) -> str:
        return f"{self.hub_url}/{'' if repository.kind == 'models' else repository.kind + '/'}{repository.name}"

    # Who, and which repositories

    @route("POST", "/api/repos/create")
    def create(self, request):
        wanted = request.json()
        user = self.writer(request, wanted["organization"])
        kind, name = f"{wanted.get('type', 'model')}s", f"{wanted['organization'] or user.name}/{wanted['name']}"
        found = self.storage.repositories.get((kind, name))
        if found is None:
            repository = self.storage.create(kind, name, wanted.get("visibility") == "private")
            return Answer({"url": self.page_of(repository), "name": name, "id": name})
        answer = {"error": "You already created this repo", "url": self.page_of(found)}
        return Answer(answer, 409)

    @route("PUT", f"{REPOSITORY}/settings")
    def settings(self, request):
        repository, wanted = self.repository(request, write=True), request.json()
        repository.private = wanted.get("visibility", "private" if repository.private else "public") == "private"
        repository.gated = wanted.get("gated", repository.gated)
        return Answer({})

    @route("GET", REPOSITORY)
    @route("GET", rf"{REPOSITORY}/revision/{REVISION}")
    def info(self, request):
        repository = self.repository(request)
        commit = self.commit_of(repository, request.parameters.get("revision", "main"))
        return Answer(repository.info(commit, with_blobs=request.query("blobs") is not None))

    # Branches, tags, commits

    @route("GET", f"{REPOSITORY}/refs")
    def refs(self, request):
        repository = self.repository(request)
        answer = {"branches": repository.listed("refs/heads/"), "tags": repository.listed("refs/tags/")}
        pull_requests = {"pullRequests": repository.listed("refs/pr/")} if request.query("include_prs") else {}
        return Answer({**answer, "converts": [], **pull_requests})

    def _new_reference(self, repository: Repository, reference: str, revision: str) -> Answer:
        if reference in repository.refs:
            raise RefusedError(409, f"Reference already exists: {reference}")
        repository.refs[reference] = self.commit_of(repository, revision).oid
        return Answer({})

    @route("POST", f"{REPOSITORY}/branch/{REVISION}")
    def create_branch(self, request):
        name = request.parameters["revision"]
        if name.startswith("refs/"):
            raise RefusedError(400, f"Invalid reference for a branch: {name}")
        start = request.json().get("startingPoint", "main")
        return self._new_reference(self.repository(request, write=True), f"refs/heads/{name}", start)

    @route("POST", f"{REPOSITORY}/tag/{REVISION}")
    def create_tag(self, request):
        reference = f"refs/tags/{request.json()['tag']}"
        return self._new_reference(self.repository(request, write=True), reference, request.parameters["revision"])

    @route("GET", rf"{REPOSITORY}/commits/{REVISION}")
    def commits(self, request):
        head = self.commit_of(self.repository(request), request.parameters["revision"])
        return Answer(
            [
                {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
                for c in head.history()
            ]
        )

    # What a commit holds

    @route("GET", rf"{REPOSITORY}/tree/{REVISION}(?:/(?P<path>.+))?")
    def tree(self, request):
        commit = self.commit_of(self.repository(request), request.parameters["revision"])
        folder = request.parameters.get("path", "").strip("/")
        entries = commit.tree(folder, recursive=request.query("recursive") in ("1", "true", "True"))
        if folder and not entries:
            raise RefusedError(404, f"{folder} does not exist", "EntryNotFound")
        start = int(request.query("cursor") or 0)
        headers, end = {}, start + self.storage.page_size
        if end < len(entries):
            query = urlencode({"recursive": request.query("recursive"), "cursor": end})
            headers["Link"] = f'<{self.hub_url}{request.path.partition("?")[0]}?{query}>; rel="next"'
        return Answer(entries[start:end], headers=headers)

    @route("POST", rf"{REPOSITORY}/paths-info/{REVISION}")
    def paths_info(self, request):
        commit = self.commit_of(self.repository(request), request.parameters["revision"])
        wanted = parse_qs(request.body.decode()).get("paths", [])
        return Answer([entry for entry in commit.tree() if entry["path"] in wanted])

    def check_gate(self, repository: Repository, request: Request) -> None:
        user = self.user(request)
        name = user.name if user else None
        if repository.gated and name != repository.owner and name not in repository.admitted:
            message = f"Access to model {repository.name} is restricted."
            raise RefusedError(403 if user else 401, message, "GatedRepo")

    @route("HEAD", RESOLVE)
    @route("GET", RESOLVE)
    def resolve(self, request):
        repository = self.repository(request)
        self.check_gate(repository, request)
        commit = self.commit_of(repository, request.parameters["revision"])
        headers = {"X-Repo-Commit": commit.oid}
        file = commit.files.get(request.parameters["path"])
        if file is None:
            raise RefusedError(404, "Entry not found", "EntryNotFound", **headers)
        headers["ETag"] = f'"{file.etag}"'
        if not file.lfs:
            return ranged(request, file.content, headers)
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
        headers["Location"] = f"{self.storage_url}/files/{file.etag}/{quote(request.parameters['path'])}"
        return Answer(b"Found", 302, headers)

    # Uploads

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request):
        try:
            metadata = card_metadata(request.json()["content"])
            if request.json()["repoType"] == "model":
                ModelCardData(**metadata)
        except (ValueError, TypeError, KeyError) as error:
            return Answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
        warning = {"message": "empty or missing yaml metadata in repo card"}
        return Answer({"errors": [], "warnings": [] if metadata else [warning]})

    @route("POST", rf"{REPOSITORY}/preupload/{REVISION}")
    def preupload(self, request):
        repository = self.repository(request, write=request.query("create_pr") is None)
        known = self.commit_of(repository, request.parameters["revision"]).files
        files = []
        for file in request.json()["files"]:
            path = file["path"]
            mode = "lfs" if self.storage.is_lfs(path, file["size"]) else "regular"
            oid = known[path].etag if path in known else None
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return Answer({"files": files})

    @route("POST", f"{LFS}/batch")
    def lfs_batch(self, request):
        repository = self.repository(
            request, write=not request.json().get("ref", {}).get("name", "").startswith("refs/pr")
        )
        objects = []
        for wanted in request.json()["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.storage.lfs_objects:
                verify = f"{self.page_of(repository)}.git/info/lfs/objects/verify"
                entry["actions"] = {"upload": self._upload_action(**entry), "verify": {"href": verify}}
            objects.append(entry)
        return Answer({"transfer": "basic", "objects": objects})

    def _upload_action(self, oid: str, size: int) -> dict:
        limit = self.storage.multipart_size
        if size <= limit:
            return {"href": f"{self.storage_url}/upload/{oid}"}
        parts = range(1, -(-size // limit) + 1)
        header = {f"{part:05}": f"{self.storage_url}/upload/{oid}/{part}" for part in parts}
        header["chunk_size"] = str(limit)
        return {"href": f"{self.storage_url}/complete/{oid}", "header": header}

    @route("POST", f"{LFS}/verify")
    def lfs_verify(self, request):
        self.repository(request)
        wanted = request.json()
        if len(self.storage.lfs_objects.get(wanted["oid"], b"")) != wanted["size"]:
            raise RefusedError(404, f"LFS object {wanted['oid']} has not arrived")
        return Answer({})

    @route("POST", rf"{REPOSITORY}/commit/{REVISION}")
    def commit(self, request):
        as_pull_request = request.query("create_pr") is not None
        repository = self.repository(request, write=not as_pull_request)
        user, revision = self.user(request), request.parameters["revision"]
        lines = [json.loads(line) for line in request.body.splitlines()]
        header = lines[0]["value"]
        parent = self.commit_of(repository, revision)
        reference = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        if as_pull_request:
            number = self.storage.next_pull_request(repository)
            reference = f"refs/pr/{number}"
            repository.refs[reference] = parent.oid
        elif reference not in repository.refs:
            raise RefusedError(404, f"{revision} is no branch", "RevisionNotFound")
        if header.get("parentCommit", parent.oid) != parent.oid:
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for line in lines[1:]:
            self._apply(files, line["key"], line["value"])
        commit = repository.commit(reference, files, user.name, header["summary"], header["description"])
        page = self.page_of(repository)
        answer = {"success": True, "commitOid": commit.oid, "commitUrl": f"{page}/commit/{commit.oid}"}
        if as_pull_request:
            answer["pullRequestUrl"] = f"{page}/discussions/{number}"
        return Answer(answer)

    def _apply(self, files: dict[str, StoredFile], operation: str, value: dict) -> None:
        path = value["path"]
        if operation == "file":
            files[path] = StoredFile(base64.b64decode(value["content"]), lfs=False)
        elif operation == "lfsFile":
            if value["oid"] not in self.storage.lfs_objects:
                raise RefusedError(400, f"LFS object {value['oid']} of {path} has not been uploaded")
            files[path] = StoredFile(self.storage.lfs_objects[value["oid"]], lfs=True)
        else:  # deletedFile or deletedFolder
            gone = [name for name in files if name == path or name.startswith(f"{path.rstrip('/')}/")]
            if not gone:
                raise RefusedError(404, "A file with this name doesn't exist", "EntryNotFound")
            for name in gone:
                del files[name]


class StorageApi(Api):
    """Where large files lie; every link stands for itself, a token sent here would be a leak."""

    def answer(self, request: Request) -> Answer:
        if "authorization" in request.headers:
            return Answer(b"Only one auth mechanism allowed", 400)
        return super().answer(request)

    @route("GET", "/files/(?P<oid>[0-9a-f]{64})/.+")
    def download(self, request):
        content = self.storage.lfs_objects.get(request.parameters["oid"])
        if content is None:
            raise RefusedError(404, "no such object")
        return ranged(request, content, {"ETag": f'"{request.parameters["oid"]}"'})

    @route("PUT", "/upload/(?P<oid>[0-9a-f]{64})")
    def upload(self, request):
        return self._keep(request.parameters["oid"], request.body)

    @route("PUT", "/upload/(?P<oid>[0-9a-f]{64})/(?P<part>[0-9]+)")
    def upload_part(self, request):
        self.storage.lfs_parts[request.parameters["oid"], int(request.parameters["part"])] = request.body
        return Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    @route("POST", "/complete/(?P<oid>[0-9a-f]{64})")
    def complete(self, request):
        oid, parts = request.parameters["oid"], self.storage.lfs_parts
        wanted = [parts.get((oid, part["partNumber"])) for part in request.json()["parts"]]
        if None in wanted:
            raise RefusedError(400, "a part has not arrived")
        return self._keep(oid, b"".join(wanted))

    def _keep(self, oid: str, content: bytes) -> Answer:
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusedError(400, "the content is not what its name says")
        self.storage.lfs_objects[oid] = content
        return Answer()


def ranged(request: Request, content: bytes, headers: dict[str, str]) -> Answer:
    """The content or the part that a Range header asks for."""
    headers = headers | {"Accept-Ranges": "bytes"}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return Answer(content, 200, headers)
    start, end = int(wanted[1]), int(wanted[2] or len(content) - 1) + 1
    if start >= len(content):
        return Answer(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
    return Answer(content[start:end], 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})
