function %(complete_func)s
    set -l response (%(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) \
        %(prog_name)s)
    for completion in $response
        set -l item (string split -m 1 "," -- $completion)
        if test $item[1] = file
            set -l parts (string match -r '^((?:[^=]*=)?)(.*)' -- $item[2])
            for path in (__fish_complete_path "$parts[3]")
                echo "$parts[2]$path"
            end
        else
            echo $item[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
