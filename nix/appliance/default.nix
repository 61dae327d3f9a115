# What a system needs whose store cannot be written: a filesystem for it, its seal, its kernel image, its updates, and
# Nix's database. It is NOT a NixOS module: module.nix adds the options to its own, and what they say to its errors,
# its warnings, its spec and the host.
args@{ lib, ... }:
let
  parts = map (part: import part args) [
    ./store.nix
    ./verity.nix
    ./uki.nix
    ./updates.nix
    ./database.nix
  ];
  all = name: lib.concatMap (part: part.${name} or [ ]) parts;
  merged = name: lib.foldl' (sum: part: sum // part.${name} or { }) { } parts;
in
{
  options = merged "options";

  # Why the host cannot have an image, and what it had better know.
  errors = all "errors";
  warnings = all "warnings";

  # The keys of the spec that are there for these alone.
  spec = merged "spec";

  # What is added to those of the host.
  kernelParams = all "kernelParams";
  extraDirectories = all "extraDirectories";
  sysupdate = merged "sysupdate";
  services = merged "services";
  nixSettings = merged "nixSettings";
  etc = merged "etc";
}
