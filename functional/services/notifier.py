"""`marconi notify` as operators run it, beside gateways that deliver nothing themselves."""

from functional.services.gateway import Gateway, Options


class Notifying(Gateway):
    """Turns a kind of gateway into one that only delivers; ready when it says that it does."""

    #: What it logs then.
    READY = "delivering notifications"

    def command(self) -> list[str]:
        return [argument if argument != "serve" else "notify" for argument in super().command()]

    def launch(self) -> None:
        self._logged = self.log_path.stat().st_size if self.log_path.exists() else 0
        super().launch()

    def is_ready(self) -> bool:
        return self.READY in self.log_path.read_bytes()[self._logged:].decode(errors="replace")


class Notifier(Notifying):
    """One process, unless it is told otherwise."""

    def __init__(self, options: Options, processes: int = 1) -> None:
        self._processes = processes
        super().__init__(options)
        self.name = "notifier"

    def command(self) -> list[str]:
        return [*super().command(), "--processes", str(self._processes)]
