# Completion of sane-image in bash: the program itself says what could come next.
_sane_image() {
    # Bash cuts words at `:` and `=`, which stand in the names of devices. What was typed as one word becomes one again.
    local rest=${COMP_LINE:0:COMP_POINT} words=() word blank
    for word in "${COMP_WORDS[@]:0:COMP_CWORD}" ''; do
        blank=${rest%%[![:space:]]*}
        rest=${rest:${#blank}}
        # The last word is what stands before the cursor.
        [[ ${#words[@]} -gt 0 && -z $word ]] && word=$rest
        rest=${rest:${#word}}
        if [[ ${#words[@]} -gt 0 && -z $blank ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done

    COMPREPLY=()
    IFS=$'\v' read -r -d '' -a COMPREPLY < <(
        SANE_IMAGE_COMPLETE=bash _CLAP_IFS=$'\v' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
            sane-image -- "${words[@]}" 2>/dev/null
    )

    # Bash puts a candidate in the place of the part after the cut.
    word=${words[${#words[@]} - 1]}
    if [[ $word = *[:=]* && $word != [\"\']* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[:=]}"}"}")
    fi
    # A directory goes on, and names get the quotes that they need.
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != */ ]] || compopt -o nospace
    [[ $(printf %s "${COMPREPLY[@]}") != *[!A-Za-z0-9_.+,:@=-]* ]] || compopt -o filenames
}
if [[ ${BASH_VERSINFO[0]}${BASH_VERSINFO[1]} -ge 44 ]]; then
    complete -o nosort -F _sane_image sane-image
else
    complete -F _sane_image sane-image
fi
