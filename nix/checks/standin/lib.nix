# A stand-in for the part of nixpkgs' `lib` that this repository uses, so that its modules can be
# evaluated where no nixpkgs is at hand. Same names, same meaning, a fraction of the features.
let
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    map
    match
    stringLength
    substring
    ;

  ### Attribute sets, lists, strings

  mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
  nameValuePair = name: value: { inherit name value; };
  filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
  getAttrs = names: set: listToAttrs (map (name: nameValuePair name set.${name}) names);
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  optionalAttrs = condition: set: if condition then set else { };
  remove = x: filter (other: other != x);
  unique = foldl' (seen: x: if elem x seen then seen else seen ++ [ x ]) [ ];
  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  optionalString = condition: text: if condition then text else "";
  makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
  findFirst =
    wanted: default: list:
    let
      found = filter wanted list;
    in
    if found == [ ] then default else head found;
  max = a: b: if a > b then a else b;
  warn = message: builtins.trace "evaluation warning: ${message}";
  concatMapStringsSep =
    separator: f: list:
    concatStringsSep separator (map f list);
  toLower =
    let
      characters = text: builtins.genList (i: substring i 1 text) (stringLength text);
    in
    builtins.replaceStrings (characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (
      characters "abcdefghijklmnopqrstuvwxyz"
    );
  removeSuffix =
    suffix: text:
    let
      rest = stringLength text - stringLength suffix;
    in
    if rest >= 0 && substring rest (-1) text == suffix then substring 0 rest text else text;
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix = suffix: text: removeSuffix suffix text != text || suffix == "";
  splitString =
    separator: text:
    filter isString (builtins.split (builtins.replaceStrings [ "." ] [ "\\." ] separator) text);
  getName = package: package.pname;
  getVersion = package: package.version;
  escapeShellArg =
    value:
    let
      text = toString value;
    in
    if match "[[:alnum:],._+:@%/-]+" text != null then
      text
    else
      "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";

  ### Properties of definitions: what mkIf, mkForce and the like wrap around a value

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkForce = mkOverride 50;
  mkDefault = mkOverride 1000;
  plainPriority = 100;
  optionDefaultPriority = 1500;

  typeOf = x: if isAttrs x then x._type or null else null;

  # A definition as the list of those without `mkIf` that it stands for, each with its priority. What
  # is overridden is never evaluated.
  resolve =
    value:
    if typeOf value == "if" then
      if value.condition then resolve value.content else [ ]
    else if typeOf value == "override" then
      [
        {
          inherit (value) priority;
          value = value.content;
        }
      ]
    else
      [
        {
          priority = plainPriority;
          inherit value;
        }
      ];

  # Moves a property around a set into its attributes, so that their names can be known without
  # evaluating the condition.
  pushDown =
    value:
    if
      elem (typeOf value) [
        "if"
        "override"
      ]
    then
      builtins.mapAttrs (_: content: value // { inherit content; }) (pushDown value.content)
    else
      value;

  ### Types: `merge` makes one value of at least one definition, given without properties

  show = concatStringsSep ".";

  describe = value: if isAttrs value then "a set" else builtins.toJSON value;

  one =
    loc: values:
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${show loc}' has conflicting definitions: ${
        concatMapStringsSep ", " describe values
      }";

  simple = description: check: {
    inherit description check;
    merge = one;
  };

  ints = {
    unsigned = simple "unsigned integer" (x: isInt x && x >= 0);
    u8 = simple "8 bit unsigned integer" (x: isInt x && x >= 0 && x < 256);
    positive = simple "positive integer" (x: isInt x && x > 0);
    between =
      low: high:
      simple "integer between ${toString low} and ${toString high}" (x: isInt x && low <= x && x <= high);
  };
  isStorePath =
    x: isAttrs x && x ? outPath || isString x && match "${builtins.storeDir}/[^/]+" x != null;
  raw = simple "raw value" (_: true) // {
    merge =
      loc: values:
      if length values == 1 then head values else throw "The option `${show loc}' is defined twice";
  };

  types = {
    inherit ints raw;
    bool = simple "boolean" isBool;
    str = simple "string" isString;
    lines = simple "strings concatenated with \"\\n\"" isString // {
      merge = _: concatStringsSep "\n";
    };
    strMatching =
      pattern: simple "string matching the pattern ${pattern}" (x: isString x && match pattern x != null);
    enum = values: simple "one of ${concatMapStringsSep ", " describe values}" (x: elem x values);
    package = simple "package" isStorePath;
    path = simple "absolute path" (
      x: isPath x || isStorePath x || isString x && substring 0 1 x == "/"
    );
    deferredModule = simple "module" (x: isAttrs x || isFunction x || isPath x) // {
      merge = _: imports: { inherit imports; };
    };

    either = first: second: {
      description = "${first.description} or ${second.description}";
      check = x: first.check x || second.check x;
      merge = loc: values: (if all first.check values then first else second).merge loc values;
    };

    nullOr = type: {
      description = "null or ${type.description}";
      check = x: x == null || type.check x;
      merge = loc: values: if elem null values then one loc values else type.merge loc values;
    };

    listOf = type: {
      description = "list of ${type.description}";
      check = isList;
      merge =
        loc: lists:
        let
          elements = concatLists lists;
        in
        builtins.genList (
          i: mergeDefinitions (loc ++ [ "[definition ${toString (i + 1)}]" ]) type [ (elemAt elements i) ]
        ) (length elements);
    };

    nonEmptyListOf =
      type:
      types.listOf type
      // {
        description = "non-empty list of ${type.description}";
        check = x: isList x && x != [ ];
      };

    # Knows without the values which attributes there are, but not which are only `mkIf false`.
    lazyAttrsOf = type: {
      description = "lazy attribute set of ${type.description}";
      check = isAttrs;
      merge =
        loc: sets:
        genAttrs (unique (concatMap attrNames sets)) (
          name: mergeDefinitions (loc ++ [ name ]) type (definitionsOf name sets)
        );
    };

    attrsOf = type: {
      description = "attribute set of ${type.description}";
      check = isAttrs;
      merge =
        loc: sets:
        (types.lazyAttrsOf type).merge loc (
          map (filterAttrs (name: _: concatMap resolve (definitionsOf name sets) != [ ])) sets
        );
    };

    submodule = module: {
      description = "submodule";
      check = x: isAttrs x || isFunction x || isPath x;
      merge =
        loc: modules:
        (evalModulesAt loc {
          # A set is a definition, even if it has an attribute called `options`.
          modules = [ module ] ++ map (set: if isAttrs set then { config = set; } else set) modules;
          specialArgs.name = elemAt loc (length loc - 1);
        }).config;
    };
  };

  definitionsOf = name: concatMap (set: optional (set ? ${name}) set.${name});

  # The value of definitions that may have properties.
  mergeDefinitions =
    loc: type: definitions:
    let
      resolved = concatMap resolve definitions;
      strongest = foldl' (
        best: def: if def.priority < best then def.priority else best
      ) optionDefaultPriority resolved;
      values = map (def: def.value) (filter (def: def.priority == strongest) resolved);
      wrong = filter (value: !type.check value) values;
    in
    if resolved == [ ] then
      throw "The option `${show loc}' was accessed but has no value defined. Try setting the option."
    else if wrong != [ ] then
      throw "A definition for option `${show loc}' is not of type `${type.description}': ${describe (head wrong)}"
    else
      type.merge loc values;

  ### Modules

  mkOption = attrs: attrs // { _type = "option"; };

  evalModules = evalModulesAt [ ];

  evalModulesAt =
    loc:
    {
      modules,
      specialArgs ? { },
    }:
    let
      args = specialArgs // {
        inherit lib;
        inherit (result) config options;
      };

      # A module and all that it imports, as `{ options, config }` each.
      load =
        module:
        let
          expression = if isPath module || isString module then import module else module;
          body = if isFunction expression then expression args else expression;
          isLong = body ? options || body ? config;
        in
        concatMap load (body.imports or [ ])
        ++ [
          {
            options = body.options or { };
            config = if isLong then body.config or { } else removeAttrs body [ "imports" ];
          }
        ];
      loaded = concatMap load modules;

      # All declarations as one tree.
      merge =
        trees:
        genAttrs (unique (concatMap attrNames trees)) (
          name:
          let
            here = definitionsOf name trees;
          in
          if length here == 1 || typeOf (head here) == "option" then head here else merge here
        );

      # The values of the options in `tree`, which stands at `loc`.
      evaluate =
        loc: tree: definitions:
        let
          sets = map pushDown definitions;
          unknown = filter (name: !tree ? ${name}) (concatMap attrNames sets);
          values = builtins.mapAttrs (
            name: node:
            let
              here = loc ++ [ name ];
              defined = definitionsOf name sets;
              defaults = optional (node ? default) (mkOverride optionDefaultPriority node.default);
            in
            if typeOf node == "option" then
              mergeDefinitions here node.type (defined ++ defaults)
            else
              evaluate here node defined
          ) tree;
        in
        if unknown == [ ] then
          values
        else
          throw "The option `${show (loc ++ [ (head unknown) ])}' does not exist.";

      result = {
        options = merge (map (module: module.options) loaded);
        config = evaluate loc result.options (map (module: module.config) loaded);
      };
    in
    result;

  lib = {
    inherit
      all
      any
      attrNames
      attrValues
      concatMap
      concatMapStringsSep
      concatStringsSep
      elem
      elemAt
      escapeShellArg
      evalModules
      filter
      filterAttrs
      findFirst
      foldl'
      genAttrs
      getAttrs
      getName
      getVersion
      hasPrefix
      hasSuffix
      head
      length
      makeBinPath
      mapAttrs'
      max
      mkDefault
      mkForce
      mkIf
      mkOption
      nameValuePair
      optional
      optionalAttrs
      optionalString
      optionals
      remove
      removeSuffix
      splitString
      toLower
      types
      unique
      warn
      ;
    inherit (builtins) mapAttrs;
    # Documentation, which is not made here.
    literalExpression = text: text;
    literalMD = text: text;
  };
in
lib
