//! Types of vGPU: their numbers, names and sizes.

use std::collections::BTreeMap;

use crate::observe::{Function, Host};

/// The types of one GPU, by number.
#[derive(Debug)]
pub(super) struct Catalogue {
    names: BTreeMap<u32, String>,
}

impl Catalogue {
    /// From the GPU's files, which list what has room now, and from what NVML tells.
    pub(super) fn new(host: &Host, gpu: &Function, told: &BTreeMap<u32, String>) -> Self {
        let mut names = told.clone();
        for function in host.virtual_functions(gpu.address).chain([gpu]) {
            for kind in function.vendor.iter().flat_map(|vendor| &vendor.creatable) {
                names.insert(kind.id, kind.name.clone());
            }
            for kind in &function.mdev_types {
                if let Some(number) = number(&kind.id) {
                    names.insert(number, kind.name.clone());
                }
            }
        }
        // What stands is a type too, though full GPUs list none; it then has no name but its number.
        let functions = host.virtual_functions(gpu.address);
        for kind in functions.filter_map(|it| it.vendor.as_ref()?.current) {
            names.entry(kind).or_insert_with(|| kind.to_string());
        }
        Self { names }
    }

    /// The number of a type by its number, folder name, name, or name without the maker; a number
    /// that stands already needs no name.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let by_number = number(text).or_else(|| text.parse().ok());
        if let Some(number) = by_number.filter(|number| self.names.contains_key(number)) {
            return Some(number);
        }
        let same = |name: &String| name == text || bare(name) == text;
        self.names.iter().find(|(_, name)| same(name)).map(|(number, _)| *number)
    }

    /// A type's name; its number where it has none.
    pub(super) fn name(&self, number: u32) -> String {
        self.names.get(&number).cloned().unwrap_or_else(|| number.to_string())
    }

    /// The types that have a name.
    pub(super) fn named(self) -> BTreeMap<u32, String> {
        let mut names = self.names;
        names.retain(|number, name| *name != number.to_string());
        names
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.values().cloned().collect()
    }
}

/// The number in a folder name like `nvidia-558`.
pub(in crate::plan) fn number(folder: &str) -> Option<u32> {
    folder.strip_prefix("nvidia-")?.parse().ok()
}

fn bare(name: &str) -> &str {
    name.strip_prefix("NVIDIA ").or_else(|| name.strip_prefix("GRID ")).unwrap_or(name)
}

/// Whether a type is one for GPU instances, as `NVIDIA A100-1-5C`: the number of slices stands before
/// the size. Of a type's number alone it cannot be told.
#[must_use]
pub fn is_on_instance(name: &str) -> bool {
    let mut parts = name.rsplit('-');
    let last = parts.next().is_some_and(|part| part.starts_with(|it: char| it.is_ascii_digit()));
    let slices = parts
        .next()
        .is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    last && slices && parts.next().is_some()
}

/// The size of a type that shares a GPU in time: `8` of `NVIDIA A40-8Q`. None for types on GPU
/// instances (`A100-1-5C`); the whole name where it has no such end.
pub(super) fn size(name: &str) -> Option<String> {
    let mut parts = name.rsplit('-');
    let last = parts.next().unwrap_or_default();
    let digits = last.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Some(name.to_owned());
    }
    (!is_on_instance(name)).then(|| last[..digits].to_owned())
}
