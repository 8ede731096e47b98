//! A small tree of XML elements: all that reading a definition needs.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use super::XmlError;

/// The largest definition that is read; libvirt's own of our guests have some 10 KiB.
pub const XML_BYTES_MAX: usize = 1024 * 1024;
/// The deepest nesting that is read.
pub const XML_DEPTH_MAX: usize = 32;

/// The most elements that are read; a guest with hundreds of devices has a few thousand.
pub const XML_ELEMENTS_MAX: usize = 20_000;
/// The most attributes of one element; no two may have one name, so each is compared with the others.
pub const XML_ATTRIBUTES_MAX: usize = 64;

/// One element with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// The name as written, with its prefix.
    pub name: String,
    /// Attributes in order.
    pub attributes: Vec<(String, String)>,
    /// Elements within, in order.
    pub children: Vec<Element>,
    /// All text directly within.
    pub text: String,
}

impl Element {
    /// Reads a document; document types and entities of its own are refused.
    ///
    /// # Errors
    /// If it isn't well-formed, too large or too deep.
    pub fn parse(xml: &str) -> Result<Self, XmlError> {
        if xml.len() > XML_BYTES_MAX {
            return Err(XmlError::TooLarge);
        }
        let mut reader = Reader::from_str(xml);
        // The elements that are open, outermost first; the bottom one stands for the document.
        let mut open = vec![Element::default()];
        let mut elements = 0;
        loop {
            if elements > XML_ELEMENTS_MAX {
                return Err(XmlError::TooLarge);
            }
            match reader.read_event().map_err(malformed)? {
                Event::Start(start) => {
                    if open.len() > XML_DEPTH_MAX {
                        return Err(XmlError::TooLarge);
                    }
                    elements += 1;
                    open.push(element(&start)?);
                }
                Event::Empty(start) => {
                    elements += 1;
                    let child = element(&start)?;
                    top(&mut open)?.children.push(child);
                }
                Event::End(_) => {
                    let child = open.pop().ok_or_else(unbalanced)?;
                    top(&mut open)?.children.push(child);
                }
                Event::Text(text) => top(&mut open)?.text.push_str(&text.xml10_content()),
                Event::CData(text) => top(&mut open)?.text.push_str(&text.into_inner()),
                Event::GeneralRef(reference) => {
                    let text = &mut top(&mut open)?.text;
                    if let Some(character) = reference.resolve_char_ref().map_err(malformed)? {
                        text.push(character);
                    } else if let Some(known) = resolve_predefined_entity(&reference) {
                        text.push_str(known);
                    } else {
                        return Err(XmlError::Malformed("an unknown entity".to_owned()));
                    }
                }
                Event::DocType(_) => {
                    return Err(XmlError::Malformed("a document type".to_owned()));
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        let document = open.pop().ok_or_else(unbalanced)?;
        match (open.is_empty(), <[Element; 1]>::try_from(document.children)) {
            (true, Ok([root])) => Ok(root),
            _ => Err(unbalanced()),
        }
    }

    /// The first child with this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children with this name.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Follows a path of first children.
    #[must_use]
    pub fn find(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |at, name| at.child(name))
    }

    /// An attribute's value.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The text of the first child with this name.
    #[must_use]
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        if attributes.len() == XML_ATTRIBUTES_MAX {
            return Err(XmlError::TooLarge);
        }
        let attribute = attribute.map_err(malformed)?;
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .map_err(malformed)?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element {
        name: start.name().as_ref().to_owned(),
        attributes,
        ..Element::default()
    })
}

fn top(open: &mut [Element]) -> Result<&mut Element, XmlError> {
    open.last_mut().ok_or_else(unbalanced)
}

fn malformed(error: impl std::fmt::Display) -> XmlError {
    XmlError::Malformed(error.to_string())
}

fn unbalanced() -> XmlError {
    XmlError::Malformed("it does not have exactly one complete root element".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_text_attributes_and_references() {
        let root = Element::parse(
            "<?xml version='1.0'?><a x='1 &lt; 2'><b>p &amp; q&#33;</b><b><![CDATA[<r>]]></b></a>",
        )
        .unwrap();
        assert_eq!(root.attribute("x"), Some("1 < 2"));
        let texts: Vec<_> = root.children("b").map(|b| b.text.as_str()).collect();
        assert_eq!(texts, ["p & q!", "<r>"]);
    }

    #[test]
    fn refuses_what_no_definition_has() {
        for bad in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a x='1' x='2'/>",
            "<a>&nope;</a>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        ] {
            assert!(Element::parse(bad).is_err(), "{bad:?}");
        }
        let deep = |levels: usize| "<a>".repeat(levels) + &"</a>".repeat(levels);
        assert!(Element::parse(&deep(XML_DEPTH_MAX)).is_ok());
        assert!(matches!(
            Element::parse(&deep(XML_DEPTH_MAX + 1)),
            Err(XmlError::TooLarge)
        ));
        let many = |elements: usize| format!("<a>{}</a>", "<b/>".repeat(elements - 1));
        assert!(Element::parse(&many(XML_ELEMENTS_MAX)).is_ok());
        assert!(matches!(
            Element::parse(&many(XML_ELEMENTS_MAX + 1)),
            Err(XmlError::TooLarge)
        ));
        let wide = |attributes: usize| {
            let attributes: String = (0..attributes).map(|n| format!(" a{n}=''")).collect();
            format!("<a{attributes}/>")
        };
        assert!(Element::parse(&wide(XML_ATTRIBUTES_MAX)).is_ok());
        assert!(matches!(
            Element::parse(&wide(XML_ATTRIBUTES_MAX + 1)),
            Err(XmlError::TooLarge)
        ));
        let large = format!("<a>{}</a>", "x".repeat(XML_BYTES_MAX));
        assert!(matches!(Element::parse(&large), Err(XmlError::TooLarge)));
    }
}
