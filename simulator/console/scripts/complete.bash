%(complete_func)s() {
    local IFS=$'\n' response type value
    response=$(COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        if [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            COMPREPLY+=("$value")
            [[ $value == *[=.] ]] && compopt -o nospace
        fi
    done <<< "$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
