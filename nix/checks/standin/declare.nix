# Declarations of options in few words, for the stand-ins of boot loaders.
{ lib }:
let
  inherit (lib) mkOption types;
in
rec {
  of = type: default: mkOption { inherit type default; };
  maybe = type: of (types.nullOr type);
  bool = of types.bool;
  str = of types.str;
  lines = of types.lines "";
}
