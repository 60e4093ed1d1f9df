//! Output that is compared letter by letter with a file in `tests/golden`. `HOSTEL_BLESS=1` writes the files; read the
//! difference before you keep it.

use std::fs;

use super::root;

/// Compares `text` with the golden file `name`.
pub(crate) fn check(name: &str, text: &str) {
    let path = root().join("tests/golden").join(name);
    if std::env::var_os("HOSTEL_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a golden file");
        return;
    }
    let expected =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("tests/golden/{name}: {error}"));
    assert!(
        expected == text,
        "tests/golden/{name} differs; HOSTEL_BLESS=1 accepts the new text\n--- expected\n{expected}--- is\n{text}"
    );
}
