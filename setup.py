"""Compiles the protocol files of the server (``dlbridge/repository/protos``) into the descriptors that it loads."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROTOS = Path("dlbridge/repository/protos")
DESCRIPTORS = "inference.binpb"


class BuildWithProtos(build_py):
    """As ``build_py``, with the compiled protocol files; an editable install has them in the source tree."""

    def run(self) -> None:
        super().run()
        folder = PROTOS if self.editable_mode else Path(self.build_lib) / PROTOS
        folder.mkdir(parents=True, exist_ok=True)
        self._compile(folder / DESCRIPTORS)

    def _compile(self, output: Path) -> None:
        from grpc_tools import protoc

        sources = sorted(str(path) for path in PROTOS.glob("*.proto"))
        command = ["protoc", f"-I{PROTOS}", f"--descriptor_set_out={output}", "--include_imports", *sources]
        if protoc.main(command):
            raise RuntimeError(f"protoc could not compile {', '.join(sources)}")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(Path(self.build_lib) / PROTOS / DESCRIPTORS)]


setup(cmdclass={"build_py": BuildWithProtos})
