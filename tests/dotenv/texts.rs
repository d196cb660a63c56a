//! Environment files and values: written by hand, and generated from a seed.

/// What people write, and what readers disagree about.
pub(crate) const TEXTS: [&str; 118] = [
    "",
    "\n",
    "A=1",
    "A=1\n",
    "A=1\nB=2\n",
    "A=1\r\nB=2\r\n",
    "A=1\rB=2\r",
    "\u{feff}A=1\nB=2\n",
    "\u{feff}\n A=1\n",
    "\u{feff}# comment\nA=1\n",
    "A=1\n\u{feff}B=2\n",
    "# comment\nA=1\n  # comment\n\t#\nB=2\n",
    "#A=1\n",
    "A=\nB=1\n",
    "A= \nB=1\n",
    "A=\n",
    "A=",
    "A= ",
    "A=\n'x'\n",
    "A=\n\n\"x\"\nB=1\n",
    "A=''\nB=\"\"\nC=``\n",
    "A = 1\nB =2\nC= 3\n",
    " A=1\n\tB=2\n\u{a0}C=3\n",
    "A=1 \nB=2\t\nC=3\u{a0}\n",
    "A=a b c\n",
    "A=a#b\n",
    "A=a #b\n",
    "A=a\t# b\n",
    "A=#b\n",
    "A= #b\n",
    "A='a' # b\n",
    "A='a'#b\n",
    "A='a # b'\n",
    "A=\"a # b\" # c\n",
    "A='a' b\nC=1\n",
    "A='a'b\nC=1\n",
    "A=a'b'\n",
    "A=a'b\nC='d\n",
    "A='a\nb'\nC=1\n",
    "A=\"a\nb\"\nC=1\n",
    "A=`a\nb`\nC=1\n",
    "A='a\r\nb'\r\nC=1\r\n",
    "A='a\rb'\n",
    "A='a\nB=1\n",
    "A=\"a\nB=1\nC=\"c\"\n",
    "A='a\nB='b'\nC='c'\n",
    "A=\"a\\nb\\tc\\rd\"\n",
    "A='a\\nb\\tc'\n",
    "A=`a\\nb`\n",
    "A=a\\nb\\\\c\n",
    "A=\"a\\\\nb\"\n",
    "A=\"a\\\\\\nb\"\n",
    "A=\"a\\a\\b\\f\\v\\'\\\"\\\\\\x\\0\\$\"\n",
    "A='it\\'s'\nB=1\n",
    "A=\"say \\\"x\\\"\"\nB=1\n",
    "A='a\\'\nB='b'\n",
    "A='a\\\\'\nB='b'\n",
    "A=\"a\\\"\nB=\"b\"\n",
    "A=\"a\\\\\"\nB=\"b\"\n",
    "A='a\\'\nB='\nb'\n",
    "A='\\\n",
    "A=\\'x\\'\n",
    "A=\"it's\"\nB='say \"x\"'\nC=`'\"`\n",
    "A='\"x\"'\nB=\"'x'\"\n",
    "A='a'\"b\"'c'\n",
    "A='a'\\''b'\n",
    "A=\"'\n",
    "A='x' 'y'\n",
    "A='x'='y'\n",
    "A=x'#'y\n",
    "export A=1\nexport\tB=2\nexport  C=3\n",
    "export A=\nB=1\n",
    "export A\nB=1\n",
    "export\nA=1\n",
    "export=1\n",
    "export =1\n",
    "exportA=1\n",
    "export export A=1\n",
    "export 'A'=1\nB=2\n",
    "export A='x'; export B=\"y\"; C=z\n",
    "A\nB=1\n",
    "A=1\nA\n",
    "=1\nB=2\n",
    "=\n=\nB=2\n",
    "A==1\nB=a=b=\n",
    "A: 1\nB:2\nC :3\nD:\n",
    "A:\n1\nB: 'x'\n",
    "A.B=1\nA-B=2\n1A=3\nA B=4\nC=5\n",
    "'A'=1\n\"B\"=2\nC=3\n",
    "'A\nB'=1\nC=2\n",
    "a=1\n_=2\n_B=3\n__proto__=4\nconstructor=5\n",
    "A=1\nA=2\n",
    "A=1\nB=2\nA=\n",
    "A=$X\nB=${X}\nC='${X}'\nD=\"${X}\"\n",
    "A=${X:-d}\nB=${NOPE:-d}\nC=${NOPE}\nD=${EMPTY:-d}\n",
    "A=1\nB=${A}2\nC=${B}3\n",
    "X=file\nA=${X}\n",
    "X\nA=${X}\nB=${X:-d}\n",
    "A=${A:-1}\nA=${A}2\n",
    "A=${X\nB=${X:d}\nC=${X:-\nD=${:-d}\nE=${}\n",
    "A=${${X}}\nB=${NOPE:-${X}}\nC=$${X}\nD=\\${X}\n",
    "A=${X-d}${X:+d}${X?d}\n",
    "A=\"${X}\\n${NOPE:-a b}\"\n",
    "A=${X:${X}\n",
    "A=$(openssl rand -hex 32)\nB=`date`\nC=\"$(date)\"\n",
    "A=\u{e9}\u{f1}\u{4e16}\nB='\u{1f511}'\n\u{c4}=1\n",
    "A=\u{a0}x\u{a0}\nB=\u{3000}y\n",
    "A=a\u{2028}b\nC=1\n",
    "A='a\u{2028}'b'\nC=1\n",
    "A='a'\u{2028}\"b\"\nC=1\n",
    "A=a\u{85}#b\nC=a\u{1c}#b\n",
    "A=a\u{b}b\u{c}\nC=\u{b}\n",
    "A=1\n\u{c}\nB=2\u{1c}\nC\u{1c}=3\n",
    "A=1;B=2\n",
    "A=1 B=2\n",
    "A=~/x\nB=a:~\nC=*\nD={a,b}\nE=a\\ b\n",
    "DATABASE_URL=postgresql://u:p%40@localhost:5432/db?sslmode=require\nSECRET_KEY=CHANGE_ME\n",
    "KEY=\"-----BEGIN KEY-----\nabc+/=\n-----END KEY-----\n\"\nAFTER=1\n",
];

/// Names that shells or JavaScript give a meaning to.
pub(crate) const NAMES: [&str; 78] = [
    "BASH",
    "BASHOPTS",
    "BASHPID",
    "BASH_ALIASES",
    "BASH_ARGC",
    "BASH_ARGV",
    "BASH_ARGV0",
    "BASH_CMDS",
    "BASH_COMMAND",
    "BASH_COMPAT",
    "BASH_ENV",
    "BASH_LINENO",
    "BASH_REMATCH",
    "BASH_SOURCE",
    "BASH_SUBSHELL",
    "BASH_VERSINFO",
    "BASH_VERSION",
    "BASH_XTRACEFD",
    "CDPATH",
    "CHILD_MAX",
    "COLUMNS",
    "COMP_CWORD",
    "COMP_WORDBREAKS",
    "DIRSTACK",
    "ENV",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "EXECIGNORE",
    "FUNCNAME",
    "FUNCNEST",
    "GLOBIGNORE",
    "GROUPS",
    "HISTCMD",
    "HISTSIZE",
    "HOME",
    "HOSTNAME",
    "IFS",
    "IGNOREEOF",
    "LANG",
    "LC_ALL",
    "LINENO",
    "LINES",
    "MAILCHECK",
    "MAPFILE",
    "OLDPWD",
    "OPTARG",
    "OPTERR",
    "OPTIND",
    "PATH",
    "PIPESTATUS",
    "POSIXLY_CORRECT",
    "PPID",
    "PS1",
    "PS4",
    "PWD",
    "RANDOM",
    "READLINE_LINE",
    "REPLY",
    "SECONDS",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "TERM",
    "TMOUT",
    "TZ",
    "UID",
    "_",
    "__proto__",
    "constructor",
    "export",
    "hasOwnProperty",
    "histchars",
    "toString",
    "unset",
    "if",
    "NODE_OPTIONS_",
    "DOCKER_HOST",
];

/// What readers give a meaning to, alone and in the company that makes it mean another thing.
const TOKENS: [&str; 64] = [
    "=",
    "=",
    "=",
    "=",
    "'",
    "'",
    "\"",
    "\"",
    "`",
    "\\",
    "\\",
    "\\n",
    "\\r",
    "\\'",
    "\\\"",
    "\\\\",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    " ",
    "  ",
    "\t",
    "#",
    " #",
    "\n#",
    "A",
    "B",
    "C",
    "X",
    "A=",
    "\nB=",
    "\nC='",
    "\nA=\"",
    "\nB=`",
    "'\n",
    "\"\n",
    "export ",
    "\nexport A=",
    "export",
    ":",
    ": ",
    "$X",
    "${X}",
    "${NOPE:-d}",
    "${",
    "}",
    ":-",
    "$(x)",
    "x",
    "y z",
    "\u{e9}",
    "\u{1f511}",
    "\u{feff}",
    "\u{a0}",
    "\u{2028}",
    "\u{85}",
    "\u{1c}",
    "\u{c}",
    "A.B",
    "=a",
    ";",
];

/// The most of these that a generated value or text is made of.
const LONGEST: u64 = 14;

pub(crate) fn generated_texts(count: usize) -> Vec<String> {
    let mut random = Random(0x5eed_0001);
    let mut texts: Vec<String> = Vec::new();
    while texts.len() < count {
        let start = ["", "", "A=", "A='", "A=\"", "A=`", "export A=", "\u{feff}A="][random.below(8)];
        let text = start.to_owned() + &random.text();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Half of them from the tokens, half from printable ASCII as a password is.
pub(crate) fn generated_values(count: usize) -> Vec<String> {
    let mut random = Random(0x5eed_0002);
    let mut values: Vec<String> =
        ["", " ", "'", "\"", "`", "\\", "\n", "\r", "\r\n", "\0", "#", "'\"`", "'\"`#", "${X}"]
            .map(str::to_owned)
            .to_vec();
    while values.len() < count {
        let value = if values.len().is_multiple_of(2) {
            random.text()
        } else {
            (0..1 + random.below(40)).map(|_| char::from(b' ' + u8::try_from(random.below(95)).unwrap())).collect()
        };
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn text(&mut self) -> String {
        (0..1 + self.next() % LONGEST).map(|_| TOKENS[self.below(TOKENS.len())]).collect()
    }
}
