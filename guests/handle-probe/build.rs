//! The module wants its memory from the host, as those of serverless-wasm do; and it stays a module.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=--import-memory");
    if std::env::var("TARGET").is_ok_and(|target| target == "wasm32-unknown-unknown") {
        println!("cargo:rustc-cdylib-link-arg=--skip-wit-component");
    }
}
