# The package's checkPhase in Nix's sandbox, without its compilation: the tests are executables that are there.
#
# This is the sandbox of a machine that has nothing but Nix. Programs and libraries of the machine are at /host and
# /lib, where nobody looks for them.
{
  # The checkout, and where cargo builds; both read-only.
  source,
  target,
  # Paths of test programs, in one string.
  tests,
  # Names of programs that do not work there, in one string.
  absent,
}:
derivation {
  name = "sane-image-tests";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [
    "-eu"
    ./sandbox.sh
  ];
  PATH = "/host/bin:/host/sbin";
  # One core, as cargoCheckHook says it.
  RUST_TEST_THREADS = "1";
  inherit
    source
    target
    tests
    absent
    ;
}
