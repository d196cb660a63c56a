//! Variables that decide which code runs, and no secrets.

/// Whether the loader, a shell or an interpreter takes the code or the files that it runs from a
/// variable of this name. Whoever may declare such a secret could run code as whoever types
/// `vault run`.
pub(super) fn steers(variable: &str) -> bool {
    // Windows' habit and some programs know such names in any case.
    let variable = variable.to_ascii_uppercase();
    NAMES.contains(&&*variable) || PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

/// Families of variables, all of which the program of that name reads.
const PREFIXES: &[&str] = &[
    "BASH_",
    "CORECLR_",
    "COR_ENABLE",
    "COR_PROFILER",
    "DOTNET_",
    "DYLD_",
    "GCONV_",
    "GIT_CONFIG",
    "LD_",
    "LUA_",
    "MALLOC_",
    "PERL5",
    "PYTHON",
    "VAULT_CORE_",
    "_RLD_",
];

/// The same by their full names.
const NAMES: &[&str] = &[
    // The loader and the C library.
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LIBPATH",
    "LOCALDOMAIN",
    "LOCPATH",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "SHLIB_PATH",
    "TMPDIR",
    "TZDIR",
    // Shells, and what finds programs and their configuration.
    "BASHOPTS",
    "BROWSER",
    "CDPATH",
    "EDITOR",
    "ENV",
    "FPATH",
    "HOME",
    "IFS",
    "LESSCLOSE",
    "LESSOPEN",
    "MANPAGER",
    "PAGER",
    "PATH",
    "PROMPT_COMMAND",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "SHELL",
    "SHELLOPTS",
    "SUDO_ASKPASS",
    "SSH_ASKPASS",
    "TERMCAP",
    "TERMINFO",
    "TERMINFO_DIRS",
    "VISUAL",
    "WGETRC",
    "CURL_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "ZDOTDIR",
    // What Git and npm run.
    "GIT_ASKPASS",
    "GIT_DIR",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SEQUENCE_EDITOR",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_TEMPLATE_DIR",
    "NPM_CONFIG_GLOBALCONFIG",
    "NPM_CONFIG_NODE_OPTIONS",
    "NPM_CONFIG_PREFIX",
    "NPM_CONFIG_SCRIPT_SHELL",
    "NPM_CONFIG_USERCONFIG",
    // Interpreters and their packages.
    "BUNDLE_GEMFILE",
    "CLASSPATH",
    "ERL_AFLAGS",
    "ERL_FLAGS",
    "ERL_LIBS",
    "GEM_HOME",
    "GEM_PATH",
    "JAVA_HOME",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "PERLLIB",
    "PERL_MB_OPT",
    "PERL_MM_OPT",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "RUBYLIB",
    "RUBYOPT",
    "RUBYSHELL",
    "R_PROFILE",
    "TCLLIBPATH",
    "VIRTUAL_ENV",
    "_JAVA_OPTIONS",
    // OpenSSL loads what its configuration names, and logs the keys of connections.
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "SSLKEYLOGFILE",
];

#[cfg(test)]
mod tests {
    use super::steers;

    #[test]
    fn loaders_and_interpreters_are_steered_and_secrets_steer_nothing() {
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "PATH",
            "BASH_ENV",
            "BASH_FUNC_x%%",
            "ENV",
            "NODE_OPTIONS",
            "PYTHONSTARTUP",
            "PERL5OPT",
            "RUBYOPT",
            "JAVA_TOOL_OPTIONS",
            "GCONV_PATH",
            "GIT_SSH_COMMAND",
            "IFS",
            "ld_preload",
            "VAULT_CORE_CONFIG",
        ] {
            assert!(steers(name), "{name}");
        }
        for name in [
            "DB_PASSWORD",
            "HTTP_PROXY",
            "ENVIRONMENT",
            "PATHS",
            "API_PATH",
            "SSH_KEY",
            "NODE_AUTH_TOKEN",
            "GIT_TOKEN",
            "RUBYGEMS_API_KEY",
            "PS",
        ] {
            assert!(!steers(name), "{name}");
        }
    }
}
