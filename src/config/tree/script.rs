//! JavaScript, TypeScript and JSON: the places of the exported value, read off the syntax tree.
//!
//! Nothing is evaluated. Constants, functions that return an object, `defineConfig(…)`,
//! `… satisfies T` and spreads are seen through; what cannot be is [`Inside::Opaque`].

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of the hundred kinds of syntax nodes, those not named are opaque"
)]

use std::{borrow::Cow, ops::Range, path::Path};

use oxc::{
    allocator::Allocator,
    ast::ast::{
        ArrayExpressionElement, ArrowFunctionBody, AssignmentTarget, BindingPattern,
        ExportDefaultDeclarationKind, Expression, FunctionBody, ObjectPropertyKind, PropertyKey,
        Statement,
    },
    parser::Parser,
    span::{GetSpan as _, SourceType, Span},
};

use super::{Inside, Node};
use crate::config::fault::Source;

/// Deepest nesting that is followed; `const a = a` must end.
const DEPTH_MAX: u8 = 64;

/// The places of the value that the program `source` exports; the whole text if nothing is found.
pub(in crate::config) fn exported(file: &Path, source: &Source) -> Node {
    let allocator = Allocator::default();
    let kind = SourceType::from_path(file).unwrap_or_default();
    let program = Parser::new(&allocator, source.text(), kind).parse().program;
    let view = View { statements: &program.body };
    view.export().map_or_else(|| Node::leaf(0..0), |value| view.node(value, DEPTH_MAX))
}

/// The places of the JSON text `source`.
pub(in crate::config) fn json(source: &Source) -> Node {
    let allocator = Allocator::default();
    match Parser::new(&allocator, source.text(), SourceType::cjs()).parse_expression() {
        Ok(expression) => View { statements: &[] }.node(&expression, DEPTH_MAX),
        Err(_) => Node::leaf(0..0),
    }
}

struct View<'p, 'a> {
    /// The top of the file.
    statements: &'p [Statement<'a>],
}

impl<'p, 'a> View<'p, 'a> {
    /// What `export default` or `module.exports =` gives away.
    fn export(&self) -> Option<&'p Expression<'a>> {
        self.statements.iter().find_map(|statement| match statement {
            Statement::ExportDefaultDeclaration(export) => match &export.declaration {
                ExportDefaultDeclarationKind::FunctionDeclaration(it) => {
                    it.body.as_deref().and_then(returned)
                }
                other => other.as_expression(),
            },
            Statement::ExpressionStatement(statement) => match &statement.expression {
                Expression::AssignmentExpression(assignment) => {
                    is_module_exports(&assignment.left).then_some(&assignment.right)
                }
                _ => None,
            },
            _ => None,
        })
    }

    fn node(&self, expression: &'p Expression<'a>, depth: u8) -> Node {
        let seen = self.through(expression, depth);
        let inside = match (seen, depth.checked_sub(1)) {
            (Expression::ObjectExpression(object), Some(depth)) => {
                Inside::Map(self.entries(&object.properties, depth))
            }
            (Expression::ArrayExpression(array), Some(depth)) => Inside::List(
                array.elements.iter().map_while(|item| self.item(item, depth)).collect(),
            ),
            _ => Inside::Opaque,
        };
        let shown = if matches!(inside, Inside::Opaque) { expression } else { seen };
        Node { key: None, value: range(shown.span()), inside }
    }

    fn entries(&self, properties: &'p [ObjectPropertyKind<'a>], depth: u8) -> Vec<(String, Node)> {
        let mut entries = Vec::new();
        for property in properties {
            match property {
                ObjectPropertyKind::ObjectProperty(property) => {
                    if let Some(name) = name(&property.key) {
                        let node = self.node(&property.value, depth);
                        entries
                            .push((name, Node { key: Some(range(property.key.span())), ..node }));
                    }
                }
                ObjectPropertyKind::SpreadProperty(spread) => {
                    if let Inside::Map(more) = self.node(&spread.argument, depth).inside {
                        entries.extend(more);
                    }
                }
            }
        }
        entries
    }

    /// `None` from the first spread on: positions behind it are unknown.
    fn item(&self, item: &'p ArrayExpressionElement<'a>, depth: u8) -> Option<Node> {
        item.as_expression().map(|expression| self.node(expression, depth))
    }

    /// The object or list that `expression` stands for, if the text shows it.
    fn through(&self, expression: &'p Expression<'a>, depth: u8) -> &'p Expression<'a> {
        let inner = match expression {
            Expression::TSSatisfiesExpression(it) => Some(&it.expression),
            Expression::TSAsExpression(it) => Some(&it.expression),
            Expression::TSNonNullExpression(it) => Some(&it.expression),
            Expression::ParenthesizedExpression(it) => Some(&it.expression),
            Expression::AwaitExpression(it) => Some(&it.argument),
            Expression::CallExpression(it) => {
                it.arguments.first().and_then(|argument| argument.as_expression())
            }
            Expression::Identifier(it) => self.constant(&it.name),
            Expression::ArrowFunctionExpression(it) => match &it.body {
                ArrowFunctionBody::FunctionBody(body) => returned(body),
                other => other.as_expression(),
            },
            Expression::FunctionExpression(it) => it.body.as_deref().and_then(returned),
            _ => None,
        };
        match (inner, depth.checked_sub(1)) {
            (Some(inner), Some(depth)) => self.through(inner, depth),
            _ => expression,
        }
    }

    /// What a name at the top of the file was declared to be.
    fn constant(&self, name: &str) -> Option<&'p Expression<'a>> {
        self.statements.iter().find_map(|statement| {
            let Statement::VariableDeclaration(declaration) = statement else { return None };
            declaration.declarations.iter().find_map(|declarator| match &declarator.id {
                BindingPattern::BindingIdentifier(id) if id.name == name => {
                    declarator.init.as_ref()
                }
                _ => None,
            })
        })
    }
}

/// The expression of a function's last `return`.
fn returned<'p, 'a>(body: &'p FunctionBody<'a>) -> Option<&'p Expression<'a>> {
    body.statements.iter().rev().find_map(|statement| match statement {
        Statement::ReturnStatement(it) => it.argument.as_ref(),
        _ => None,
    })
}

fn is_module_exports(target: &AssignmentTarget<'_>) -> bool {
    let AssignmentTarget::StaticMemberExpression(member) = target else { return false };
    let object = match &member.object {
        Expression::Identifier(id) => id.name.as_str(),
        _ => return false,
    };
    object == "module" && member.property.name == "exports"
}

fn name(key: &PropertyKey<'_>) -> Option<String> {
    key.static_name().map(Cow::into_owned)
}

fn range(span: Span) -> Range<usize> {
    let byte = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    byte(span.start)..byte(span.end)
}
