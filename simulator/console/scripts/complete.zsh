#compdef %(prog_name)s
%(complete_func)s() {
    local -a closed open described response
    local type key descr
    response=("${(@f)$(COMP_WORDS="${(j: :)${(@q)words[1,CURRENT]}}" COMP_CWORD=$((CURRENT-1)) \
        %(complete_var)s=zsh_complete %(prog_name)s)}")
    for type key descr in ${response}; do
        if [[ $type == file ]]; then
            compset -P '*='
            _path_files -f
        elif [[ $key == *[=.] ]]; then
            open+=("$key")
        elif [[ $descr == _ ]]; then
            closed+=("$key")
        else
            described+=("$key:$descr")
        fi
    done
    (( $#described )) && _describe -V unsorted described
    (( $#closed )) && compadd -V unsorted -a closed
    (( $#open )) && compadd -S '' -V unsorted -a open
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
