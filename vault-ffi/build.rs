//! The name by which programs find the library where it is installed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Not `rustc-cdylib-link-arg`, which Cargo hands on to every cdylib that depends on this one.
    println!("cargo::rustc-link-arg=-Wl,-soname,libvault.so.0");
}
