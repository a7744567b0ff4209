"""placeholder"""


class BackendTests: ...
