//! The Rust files of the workspace as a tree of modules, with the names each module defines and
//! imports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, UseTree,
    visit::{self, Visit},
};

/// A module that is not a test: a file, or a `mod` block inside of one.
#[derive(Debug)]
pub(crate) struct Module {
    /// The file that holds it, relative to the workspace.
    pub(crate) file: PathBuf,
    pub(crate) parent: Option<usize>,
    /// Its submodules, in the order of their declarations.
    pub(crate) children: Vec<(String, usize)>,
    /// The names of the items it defines itself.
    items: BTreeSet<String>,
    /// The names it imports or re-exports, with the path each stands for.
    imported: BTreeMap<String, Vec<String>>,
    /// The modules it imports everything of.
    globs: Vec<Vec<String>>,
    /// Every path in it, those of imports among them.
    pub(crate) paths: BTreeSet<Vec<String>>,
}

/// One crate. Its first module is the root.
#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) modules: Vec<Module>,
}

impl Crate {
    /// Reads the crate whose root is at `lib`, which is relative to the workspace.
    pub(crate) fn read(lib: &Path) -> Self {
        let mut source = Self {
            modules: Vec::new(),
        };
        source.add_file(lib, lib.parent().unwrap(), None);
        source
    }

    /// The crate of one file, for tests of this module.
    pub(crate) fn of_text(text: &str) -> Self {
        let mut source = Self {
            modules: Vec::new(),
        };
        let file = syn::parse_file(text).unwrap();
        source.add(Path::new("lib.rs"), Path::new(""), None, &file.items);
        source
    }

    fn add_file(&mut self, file: &Path, folder: &Path, parent: Option<usize>) -> usize {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.add(file, folder, parent, &parsed.items)
    }

    fn add(&mut self, file: &Path, folder: &Path, parent: Option<usize>, items: &[Item]) -> usize {
        let this = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: Vec::new(),
            items: BTreeSet::new(),
            imported: BTreeMap::new(),
            globs: Vec::new(),
            paths: BTreeSet::new(),
        });
        let mut names = Names::default();
        for item in items {
            match item {
                Item::Mod(module) if is_test(&module.attrs) => {}
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let folder = folder.join(&name);
                    let child = match &module.content {
                        Some((_, items)) => self.add(file, &folder, Some(this), items),
                        None => self.add_file(&folder.with_extension("rs"), &folder, Some(this)),
                    };
                    self.modules[this].children.push((name, child));
                }
                item => {
                    self.modules[this].items.extend(name_of(item));
                    names.visit_item(item);
                }
            }
        }
        let module = &mut self.modules[this];
        module.imported = names.imported;
        module.globs = names.globs;
        module.paths = names.paths;
        this
    }

    /// The module that defines what a path in `module` names; `None` for other crates, for local
    /// names, and for a path that ends at a module, which by itself uses nothing of it.
    pub(crate) fn definition(&self, module: usize, path: &[String]) -> Option<usize> {
        match self.find(module, path, 0)? {
            Found::Module(_) => None,
            Found::Item(module) => Some(module),
        }
    }

    fn find(&self, module: usize, path: &[String], depth: usize) -> Option<Found> {
        // Two modules may import everything of each other.
        if depth > 16 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let from = match first.as_str() {
            "crate" => Found::Module(0),
            "self" => Found::Module(module),
            "super" => Found::Module(self.modules[module].parent?),
            name => self.member(module, name, depth)?,
        };
        rest.iter().try_fold(from, |found, name| match found {
            Found::Item(_) => Some(found),
            Found::Module(module) if name == "super" => {
                self.modules[module].parent.map(Found::Module)
            }
            Found::Module(module) => self
                .member(module, name, depth)
                // Nothing is known of it, for a macro may have made it.
                .or(Some(Found::Item(module)).filter(|_| !self.is_foreign(module, name))),
        })
    }

    /// What a name means inside a module.
    fn member(&self, module: usize, name: &str, depth: usize) -> Option<Found> {
        let this = &self.modules[module];
        if let Some((_, child)) = this.children.iter().find(|(child, _)| child == name) {
            return Some(Found::Module(*child));
        }
        if this.items.contains(name) {
            return Some(Found::Item(module));
        }
        if let Some(path) = this.imported.get(name) {
            return self.find(module, path, depth + 1);
        }
        this.globs.iter().find_map(|glob| {
            match self.find(module, glob, depth + 1)? {
                // Without those that it imports itself, which may lead back here.
                Found::Module(from) if from != module => self.member(from, name, depth + 1),
                _ => None,
            }
        })
    }

    /// Whether the name is imported from another crate.
    fn is_foreign(&self, module: usize, name: &str) -> bool {
        self.modules[module].imported.contains_key(name)
    }
}

#[derive(Debug, Clone, Copy)]
enum Found {
    Module(usize),
    Item(usize),
}

/// Collects imports and paths of one module, macro calls included.
#[derive(Default)]
struct Names {
    imported: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    paths: BTreeSet<Vec<String>>,
}

impl Names {
    fn add_use(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            if name != "self" || before.is_empty() {
                path.push(name.to_string());
            }
            path
        };
        match tree {
            UseTree::Path(path) => self.add_use(&with(&path.ident), &path.tree),
            UseTree::Name(name) => {
                let path = with(&name.ident);
                self.add_import(path.last().unwrap().clone(), path);
            }
            UseTree::Rename(rename) => {
                self.add_import(rename.rename.to_string(), with(&rename.ident));
            }
            UseTree::Glob(_) => {
                self.globs.push(before.to_vec());
                // An import of everything needs the file whatever is used of it.
                let mut path = before.to_vec();
                path.push("*".to_owned());
                self.paths.insert(path);
            }
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| self.add_use(before, tree)),
        }
    }

    fn add_import(&mut self, name: String, path: Vec<String>) {
        self.paths.insert(path.clone());
        // `use tokio;` says nothing about where `tokio` is.
        if path != [name.as_str()] {
            self.imported.insert(name, path);
        }
    }

    /// The paths in the tokens of a macro call.
    fn add_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree;

        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.take(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.take(&mut path);
                    colons = 0;
                    self.add_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.take(&mut path);
                    colons = 0;
                }
            }
        }
        self.take(&mut path);
    }

    /// A single word in a macro is mostly a variable.
    fn take(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        self.paths
            .insert(segments.map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
    }

    // What is compiled for tests only may import what it tests.
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Whether `#[cfg(test)]` or `#[cfg(doctest)]` is among the attributes.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test") || path.is_ident("doctest"))
    })
}

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files in a folder of the workspace whose names end in one of these extensions, sorted, and
/// relative to the workspace. What is generated or installed is left out.
pub(crate) fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                if name != "generated" && name != "node_modules" && name != "target" {
                    folders.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
            {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}
