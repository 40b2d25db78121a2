package rules

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	networkingv1 "k8s.io/api/networking/v1"
)

// document is one YAML document that is compared with the type that it has to be. The libraries that read it into that type know neither lines
// nor, for many errors, the field.
type document struct {
	file  string
	lines map[string]int // of each field that is there
	errs  []*Error
}

func objectType() reflect.Type { return reflect.TypeFor[networkingv1.NetworkPolicy]() }

func (d *document) fail(line int, field, text string) {
	d.errs = append(d.errs, &Error{d.file, line, field, text})
}

// line gives the line of a field, or of the nearest that is there and holds it.
func (d *document) line(field string) int {
	for {
		if line, ok := d.lines[field]; ok {
			return line
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return d.lines[""]
		}
		field = field[:i]
	}
}

// walk compares a node with a type.
func (d *document) walk(n *yaml.Node, t reflect.Type, field string) {
	d.lines[field] = n.Line
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if isNull(n) {
		return
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	// These read themselves: an int or a string, a time.
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		if n.Kind != yaml.ScalarNode {
			d.fail(n.Line, field, "want one value")
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		d.walkObject(n, t, field)
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			d.fail(n.Line, field, "want an object")
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			d.walk(n.Content[i+1], t.Elem(), join(field, n.Content[i].Value))
		}
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.fail(n.Line, field, "want a list")
			return
		}
		for i, item := range n.Content {
			d.walk(item, t.Elem(), field+"["+strconv.Itoa(i)+"]")
		}
	default:
		d.walkScalar(n, t, field)
	}
}

func (d *document) walkScalar(n *yaml.Node, t reflect.Type, field string) {
	want := map[reflect.Kind]string{
		reflect.String: "!!str", reflect.Bool: "!!bool", reflect.Int32: "!!int", reflect.Int64: "!!int",
	}[t.Kind()]
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(n.Line, field, "want one value")
	case want != "" && n.Tag != want:
		d.fail(n.Line, field, fmt.Sprintf("%s: want a %s", n.Value, map[string]string{"!!str": "string", "!!bool": "yes or no", "!!int": "number"}[want]))
	}
}

func (d *document) walkObject(n *yaml.Node, t reflect.Type, field string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, field, "want an object")
		return
	}
	known := fields(t)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i]
		path := join(field, name.Value)
		inner, ok := known[name.Value]
		switch {
		case !ok:
			d.fail(name.Line, path, "there is no such field")
		case seen[name.Value]:
			d.fail(name.Line, path, "stands there twice")
		default:
			d.walk(n.Content[i+1], inner, path)
		}
		seen[name.Value] = true
	}
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// fields gives the types of a struct's fields by their names in JSON.
func fields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			for k, v := range fields(f.Type) {
				out[k] = v
			}
			continue
		}
		if name != "" && name != "-" {
			out[name] = f.Type
		}
	}
	return out
}
