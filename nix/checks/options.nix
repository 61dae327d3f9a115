# The reference of the options, docs/reference/options.md, from their declarations: a string.
#
# The module is not evaluated but only called, by a `lib` whose types are their own descriptions, so that nothing of
# NixOS is needed. `run` compares what comes of it with the page, and `run --update` writes the page.
let
  standin = import ./standin/lib.nix;
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    isAttrs
    isBool
    isInt
    isList
    replaceStrings
    ;

  # A type: how it is called, and the options in it if it is a submodule.
  type = name: { inherit name; };
  of = before: inner: inner // { name = "${before} ${inner.name}"; };
  types = {
    bool = type "true or false";
    lines = type "lines of text";
    package = type "a package";
    path = type "a path";
    str = type "a string";
    ints = {
      positive = type "an integer over 0";
      unsigned = type "an integer from 0";
      u8 = type "an integer from 0 to 255";
      between = least: most: type "an integer from ${toString least} to ${toString most}";
    };
    attrsOf = inner: of "an attribute set, each" inner // { step = "<name>"; };
    either = one: other: type "${one.name}, or ${other.name}";
    enum = values: type "one of ${concatStringsSep ", " (map value values)}";
    listOf = inner: of "a list, each" inner // { step = "*"; };
    nonEmptyListOf = inner: of "a list that is not empty, each" inner;
    nullOr = inner: inner // { name = "null, or ${inner.name}"; };
    strMatching = pattern: type "a string that matches `${pattern}`";
    submodule = module: type "with the options below" // { inherit (module) options; };
  };

  lib = standin // {
    inherit types;
    mkOption = option: option;
    literalExpression = text: { inherit text; };
    literalMD = text: {
      inherit text;
      isProse = true;
    };
  };

  module = import ../module.nix {
    inherit lib;
    config = { };
    options = { };
    pkgs = { };
  };

  ### Values as Nix spells them

  value =
    x:
    if x == null then
      "null"
    else if isBool x then
      (if x then "true" else "false")
    else if isInt x then
      toString x
    else if isList x then
      (if x == [ ] then "[ ]" else "[ ${concatStringsSep " " (map value x)} ]")
    else if isAttrs x then
      (
        if x == { } then
          "{ }"
        else
          "{ ${concatStringsSep " " (map (name: "${name} = ${value x.${name}};") (attrNames x))} }"
      )
    else
      "\"${replaceStrings [ "\n" ] [ "\\n" ] x}\"";

  lines = text: builtins.filter builtins.isString (builtins.split "\n" text);
  stripped =
    text:
    let
      all = lines text;
      last = builtins.elemAt all (builtins.length all - 1);
      rest = builtins.genList (builtins.elemAt all) (builtins.length all - 1);
    in
    if last == "" then rest else all;

  # One line of code in the text, several as a block.
  shown =
    label: x:
    if isAttrs x && x ? isProse then
      [ "- ${label}: ${x.text}" ]
    else
      let
        code = stripped (if isAttrs x && x ? text then x.text else value x);
      in
      if builtins.length code == 1 then
        [ "- ${label}: `${builtins.head code}`" ]
      else
        [
          "- ${label}:"
          ""
        ]
        ++ map (line: if line == "" then "" else "      ${line}") code
        ++ [ "" ];

  # Without what only the manual of NixOS understands.
  prose = text: stripped (replaceStrings [ "{option}" "{file}" "{command}" ] [ "" "" "" ] text);

  entry =
    level: path: option:
    let
      nested = option.type.options or { };
      below = name: entry "###" "${path}.${option.type.step}.${name}" nested.${name};
    in
    [
      "${level} `${path}`"
      ""
    ]
    ++ prose option.description
    ++ [
      ""
      "- Type: ${option.type.name}"
    ]
    ++ (
      if option ? defaultText then
        shown "Default" option.defaultText
      else if option ? default then
        shown "Default" option.default
      else
        [ "- No default: it must be set" ]
    )
    ++ (if option ? example then shown "Example" option.example else [ ])
    ++ [ "" ]
    ++ concatMap below (attrNames nested);

  # All options by their names, and those in a set after its own.
  named =
    path: set:
    concatMap (
      name:
      let
        here = "${path}.${name}";
      in
      if set.${name} ? type then
        [
          {
            path = here;
            option = set.${name};
          }
        ]
      else
        named here set.${name}
    ) (attrNames set);
in
concatStringsSep "\n" (
  [
    "# The options of `sane.image`"
    ""
    "Made of the declarations in [nix/](../../nix/module.nix) by `nix/checks/run --update`, and compared with them in CI:"
    "change the declarations, not this page. [NixOS hosts](../how-to/nixos-hosts.md) shows what people set, and why."
    ""
  ]
  ++ concatMap (one: entry "##" one.path one.option) (named "sane.image" module.options.sane.image)
)
