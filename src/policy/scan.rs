//! What a parsed rule file may not do: calls out of the sealed world, and calls into nothing.
//!
//! The engine would find a missing function only where a rule reaches it; here it is found before.

use std::collections::BTreeSet;

use regorus::unstable::{
    BUILTINS, Expr, Import, Literal, Module, Query, Ref, Rule, RuleHead, Span,
};

use super::trouble::Trouble;
use crate::spec::TextPlace;

/// Functions of the engine that are not for rules: what depends on more than the input, and what
/// makes values of any size in one step, which no time limit stops.
const FORBIDDEN: [(&str, &str); 9] = [
    ("bits.lsh", "it makes numbers of any size"),
    ("http.send", "rules have no network"),
    ("numbers.range", "it makes lists of any size"),
    ("numbers.range_step", "it makes lists of any size"),
    ("opa.runtime", "rules do not see the process"),
    ("rand.intn", "the same input has to give the same verdicts"),
    ("time.now_ns", "the time is `input.now` and `input.nowUnix`"),
    ("trace", "nothing reads it"),
    ("uuid.rfc4122", "the same input has to give the same verdicts"),
];

/// Why functions beginning so are not there at all.
const ABSENT: [(&str, &str); 5] = [
    ("http.", "rules have no network"),
    ("net.lookup", "rules have no network"),
    ("time.", "the time is `input.now` and `input.nowUnix`"),
    ("opa.", "rules do not see the process"),
    ("rand.", "the same input has to give the same verdicts"),
];

/// Functions and rules by package: `trueup.labels` to `missing`.
pub(super) type Names = BTreeSet<(String, String)>;

/// The first call of `module` that is not allowed or leads nowhere.
pub(super) fn first_trouble(module: &Module, package: &str, names: &Names) -> Option<Trouble> {
    let imports: BTreeSet<String> = module.imports.iter().map(alias).collect();
    let mut scan = Scan { package, names, imports, found: None };
    for rule in &module.policy {
        scan.rule(rule);
    }
    scan.found
}

fn alias(import: &Import) -> String {
    match &import.r#as {
        Some(name) => name.text().to_owned(),
        None => last_word(import.refr.span().text()),
    }
}

fn last_word(path: &str) -> String {
    path.rsplit(['.', '"']).find(|word| !word.is_empty() && *word != "]").unwrap_or("").to_owned()
}

struct Scan<'a> {
    package: &'a str,
    names: &'a Names,
    imports: BTreeSet<String>,
    found: Option<Trouble>,
}

impl Scan<'_> {
    fn rule(&mut self, rule: &Rule) {
        match rule {
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { assign, .. } => {
                        if let Some(assign) = assign {
                            self.expr(&assign.value);
                        }
                    }
                    RuleHead::Set { key, .. } => self.all(key),
                    RuleHead::Func { args, assign, .. } => {
                        self.all(args);
                        if let Some(assign) = assign {
                            self.expr(&assign.value);
                        }
                    }
                }
                for body in bodies {
                    if let Some(assign) = &body.assign {
                        self.expr(&assign.value);
                    }
                    self.query(&body.query);
                }
            }
            Rule::Default { value, .. } => self.expr(value),
        }
    }

    fn query(&mut self, query: &Query) {
        for stmt in &query.stmts {
            match &stmt.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { key, value, collection, .. } => {
                    self.all(key);
                    self.expr(value);
                    self.expr(collection);
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
                Literal::Every { domain, query, .. } => {
                    self.expr(domain);
                    self.query(query);
                }
            }
            for with in &stmt.with_mods {
                self.expr(&with.r#as);
            }
        }
    }

    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Ref<Expr>>) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    // As deep as the parser lets expressions nest.
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.all(items),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expr(key);
                    self.expr(value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.expr(term);
                self.query(query);
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.expr(key);
                self.expr(value);
                self.query(query);
            }
            Expr::Call { fcn, params, .. } => {
                self.call(fcn.span());
                self.all(params);
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::RefDot { refr, .. } => self.expr(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.expr(refr);
                self.expr(index);
            }
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                self.all(key);
                self.expr(value);
                self.expr(collection);
            }
            // Names and literals, which call nothing.
            _ => {}
        }
    }

    fn call(&mut self, span: &Span) {
        let path = span.text();
        let message = if let Some((_, why)) = FORBIDDEN.iter().find(|(name, _)| *name == path) {
            format!("function `{path}` is not for rules: {why}")
        } else if self.known(path) {
            return;
        } else if let Some((_, why)) = ABSENT.iter().find(|(start, _)| path.starts_with(start)) {
            format!("there is no function `{path}`: {why}")
        } else {
            format!("there is no function `{path}`")
        };
        let place =
            TextPlace { path: span.source.get_path().clone(), line: span.line, column: span.col };
        self.found.get_or_insert_with(|| Trouble::at(place, message));
    }

    fn known(&self, path: &str) -> bool {
        let first = path.split(['.', '[']).next().unwrap_or_default();
        let local = self.names.contains(&(self.package.to_owned(), path.to_owned()));
        let full = path.strip_prefix("data.").and_then(|rest| rest.rsplit_once('.')).is_some_and(
            |(package, name)| self.names.contains(&(package.to_owned(), name.to_owned())),
        );
        local
            || full
            || self.imports.contains(first)
            || path == "print"
            || BUILTINS.contains_key(path)
    }
}
