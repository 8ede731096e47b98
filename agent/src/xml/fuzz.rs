//! Whatever libvirt gives back as a definition: anybody on the host may have written it.

use virtflow_testkit::fuzz::{Format, Target, text};

use super::{Element, read_domain, tests};

#[test]
fn domain_xml() {
    let ours = tests::spec().to_xml(&[]).unwrap();
    Target::new("domain_xml", Format::Text)
        .seed(ours)
        .seed("<domain type='kvm'><name>a</name><uuid>0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11</uuid><memory unit='GiB'>1</memory><vcpu>1</vcpu><devices/></domain>")
        .words(&[
            "<devices>", "</devices>", "<metadata>", "<uuid>", "<disk ", "unit='b'", "&lt;", "&#x41;",
            "&#0;", "&#x110000;", "<![CDATA[", "]]>", "<!--", "-->", "<?xml version='1.0'?>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]>", "xmlns:virtflow=", "virtflow:vm", "18446744073709551615",
        ])
        .iterations(3000)
        .sizes(4096, 192 * 1024)
        .memory(8, 8 * 1024 * 1024)
        .run(|input| {
            let text = text(input);
            let tree = Element::parse(&text).map_err(|error| error.to_string())?;
            assert!(depth(&tree) <= super::XML_DEPTH_MAX);
            let facts = read_domain(&text).map_err(|error| error.to_string())?;
            if let Some(mark) = &facts.mark {
                assert!(text.contains(&*mark.vm_name));
            }
            Ok(())
        });
}

fn depth(element: &Element) -> usize {
    1 + element.children.iter().map(depth).max().unwrap_or(0)
}
