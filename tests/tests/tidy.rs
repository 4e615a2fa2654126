//! The lines of the house that no lint holds: file length, where `unsafe` may live, nothing left
//! to do, every crate introduced by its `lib.rs`, every shell script parseable.
//!
//! Each rule is a function from a file's text to complaints, so that the tests at the end can show
//! that every one of them is able to complain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most lines of code one file may have before its tests.
const MAX_CODE_LINES: usize = 400;
/// How far above an unsafe block its reason may begin.
const SAFETY_REACH: usize = 8;
/// Words that say that something is not finished. Split so that this file does not contain them.
const UNFINISHED: [&str; 6] = [
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("#[ig", "nore"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X:"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
        .to_path_buf()
}

/// All files of the repository as git would commit them, build output left out.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable folder") {
            let path = entry.expect("readable entry").path();
            let name = entry_name(&path);
            if path.is_symlink() || name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn entry_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn complaints_about(wanted: fn(&Path) -> bool, rule: fn(&Path, &str) -> Vec<String>) {
    let mut looked_at = 0_usize;
    let mut complaints = Vec::new();
    for path in files().into_iter().filter(|path| wanted(path)) {
        let text = fs::read_to_string(&path).expect("UTF-8 text");
        let name = path.strip_prefix(root()).unwrap_or(&path).to_path_buf();
        complaints.extend(rule(&name, &text));
        looked_at += 1;
    }
    assert!(looked_at > 0, "no file was looked at");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The code of a Rust file, line by line: comments and the contents of literals are blanks.
fn code_lines(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        at = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => until_line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => skip_block_comment(&chars, at, &mut lines),
            '"' => skip_string(&chars, at, &mut lines),
            'r' if opens_raw_string(&chars, at) => skip_raw_string(&chars, at, &mut lines),
            '\'' => skip_char(&chars, at),
            '\n' => {
                lines.push(String::new());
                at + 1
            }
            other => {
                lines.last_mut().expect("there is a first line").push(other);
                at + 1
            }
        };
    }
    lines
}

fn until_line_end(chars: &[char], at: usize) -> usize {
    (at..chars.len())
        .find(|&i| chars[i] == '\n')
        .unwrap_or(chars.len())
}

fn skip_block_comment(chars: &[char], at: usize, lines: &mut Vec<String>) -> usize {
    let mut i = at + 2;
    while i < chars.len() && !(chars[i] == '/' && chars[i - 1] == '*' && i > at + 2) {
        if chars[i] == '\n' {
            lines.push(String::new());
        }
        i += 1;
    }
    i + 1
}

fn skip_string(chars: &[char], at: usize, lines: &mut Vec<String>) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        if chars[i] == '\\' {
            i += 1;
        }
        if chars.get(i) == Some(&'\n') {
            lines.push(String::new());
        }
        i += 1;
    }
    lines
        .last_mut()
        .expect("there is a first line")
        .push_str("\"\"");
    i + 1
}

fn opens_raw_string(chars: &[char], at: usize) -> bool {
    let starts_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    (starts_word || chars[at - 1] == 'b') && chars.get(at + 1 + hashes) == Some(&'"')
}

fn skip_raw_string(chars: &[char], at: usize, lines: &mut Vec<String>) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let mut i = at + 2 + hashes;
    while i < chars.len() {
        if chars[i] == '\n' {
            lines.push(String::new());
        }
        let closes = chars[i + 1..]
            .iter()
            .take(hashes)
            .filter(|&&c| c == '#')
            .count()
            == hashes;
        if chars[i] == '"' && closes {
            break;
        }
        i += 1;
    }
    lines
        .last_mut()
        .expect("there is a first line")
        .push_str("\"\"");
    i + 1 + hashes
}

/// A character literal, or the tick of a lifetime.
fn skip_char(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        return (at + 3..chars.len())
            .find(|&i| chars[i] == '\'')
            .map_or(chars.len(), |end| end + 1);
    }
    if chars.get(at + 2) == Some(&'\'') {
        at + 3
    } else {
        at + 1
    }
}

fn code_before_tests(text: &str) -> Vec<String> {
    code_lines(text)
        .into_iter()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .collect()
}

fn too_long(name: &Path, text: &str) -> Vec<String> {
    let lines = code_before_tests(text)
        .iter()
        .filter(|line| !line.trim().is_empty())
        .count();
    if lines <= MAX_CODE_LINES {
        return Vec::new();
    }
    vec![format!(
        "{}: {lines} lines of code, {MAX_CODE_LINES} are allowed: split it by concept",
        name.display()
    )]
}

fn is_sys(name: &Path) -> bool {
    name.file_name().is_some_and(|file| file == "sys.rs")
        || name
            .parent()
            .is_some_and(|folder| folder.iter().any(|part| part == "sys"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|part| part == word)
}

fn unsafe_outside_sys(name: &Path, text: &str) -> Vec<String> {
    if is_sys(name) {
        return Vec::new();
    }
    code_lines(text)
        .iter()
        .enumerate()
        .filter(|(_, line)| has_word(line, "unsafe"))
        .map(|(at, _)| {
            format!(
                "{}:{}: unsafe outside a file called sys.rs",
                name.display(),
                at + 1
            )
        })
        .collect()
}

fn unsafe_without_reason(name: &Path, text: &str) -> Vec<String> {
    let original: Vec<&str> = text.lines().collect();
    code_lines(text)
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains("unsafe {") || line.contains("unsafe impl"))
        .filter(|(at, _)| {
            let from = at.saturating_sub(SAFETY_REACH);
            !original[from..=*at]
                .iter()
                .any(|line| line.contains("SAFETY:"))
        })
        .map(|(at, _)| {
            format!(
                "{}:{}: an unsafe block without a SAFETY comment",
                name.display(),
                at + 1
            )
        })
        .collect()
}

fn unfinished(name: &Path, text: &str) -> Vec<String> {
    text.lines()
        .enumerate()
        .flat_map(|(at, line)| {
            UNFINISHED
                .iter()
                .filter(move |mark| line.contains(**mark))
                .map(move |mark| (at + 1, mark))
        })
        .map(|(line, mark)| format!("{}:{line}: {mark}", name.display()))
        .collect()
}

fn not_introduced(name: &Path, text: &str) -> Vec<String> {
    if text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!(
        "{}: does not begin with the crate's documentation",
        name.display()
    )]
}

#[test]
fn files_are_short() {
    complaints_about(is_rust, too_long);
}

#[test]
fn unsafe_lives_in_sys_files() {
    complaints_about(is_rust, unsafe_outside_sys);
}

#[test]
fn every_unsafe_block_says_why() {
    complaints_about(is_rust, unsafe_without_reason);
}

#[test]
fn nothing_is_left_for_later() {
    let texts = |path: &Path| {
        let of_ours = path.extension().is_some_and(|extension| {
            ["rs", "toml", "sh", "service"]
                .iter()
                .any(|ours| extension == *ours)
        });
        of_ours || is_script(path)
    };
    complaints_about(texts, unfinished);
}

#[test]
fn every_crate_introduces_itself() {
    complaints_about(
        |path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"),
        not_introduced,
    );
}

/// A file whose first line names a shell.
fn is_script(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else {
        return false;
    };
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or(&[]);
    let first = String::from_utf8_lossy(first);
    first.starts_with("#!") && (first.contains("sh"))
}

#[test]
fn shell_scripts_parse() {
    for path in files().into_iter().filter(|path| is_script(path)) {
        let text = fs::read_to_string(&path).unwrap();
        let shell = if text.lines().next().unwrap().contains("bash") {
            "bash"
        } else {
            "sh"
        };
        let output = Command::new(shell).arg("-n").arg(&path).output().unwrap();
        assert!(
            output.status.success(),
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn each_rule_can_complain() {
    let long = "fn f() {}\n".repeat(MAX_CODE_LINES + 1);
    assert_eq!(too_long(Path::new("a.rs"), &long).len(), 1);
    let tests_are_free = format!("fn f() {{}}\n#[cfg(test)]\n{long}");
    assert!(too_long(Path::new("a.rs"), &tests_are_free).is_empty());
    let comments_are_free = "// why\n\n".repeat(MAX_CODE_LINES + 1);
    assert!(too_long(Path::new("a.rs"), &comments_are_free).is_empty());

    let block = "fn f() {\n    unsafe { g() }\n}\n";
    assert_eq!(unsafe_outside_sys(Path::new("src/a.rs"), block).len(), 1);
    assert!(unsafe_outside_sys(Path::new("src/sys.rs"), block).is_empty());
    assert!(unsafe_outside_sys(Path::new("src/sys/a.rs"), block).is_empty());
    assert_eq!(
        unsafe_without_reason(Path::new("src/sys.rs"), block).len(),
        1
    );
    let reasoned = "// SAFETY: g has no conditions.\nunsafe { g() }\n";
    assert!(unsafe_without_reason(Path::new("src/sys.rs"), reasoned).is_empty());

    for mark in UNFINISHED {
        assert_eq!(unfinished(Path::new("a.rs"), mark).len(), 1, "{mark}");
    }
    assert_eq!(not_introduced(Path::new("src/lib.rs"), "mod a;\n").len(), 1);
}

#[test]
fn words_in_comments_and_literals_are_not_code() {
    let text = "// unsafe\n/* unsafe\nunsafe */ let a = \"unsafe\"; let b = r#\"unsafe \" \"#;\n\
                let c: &'static str = b; let d = '\"'; let e = '\\''; // unsafe\nlet f = 1;\n";
    assert!(unsafe_outside_sys(Path::new("a.rs"), text).is_empty());
    let lines = code_lines(text);
    assert_eq!(lines.iter().filter(|l| l.contains("let f = 1;")).count(), 1);
    assert_eq!(lines.len(), text.lines().count() + 1);
    assert!(!unsafe_outside_sys(Path::new("a.rs"), "let c = 'x'; unsafe { g() }").is_empty());
}
