package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	networkingv1 "k8s.io/api/networking/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

// Policy is one NetworkPolicy, and where it is from.
type Policy struct {
	Object networkingv1.NetworkPolicy
	Source string // a file's path, "applied", or a container's label
}

// Name is what a policy goes by: NAMESPACE/NAME.
func (p *Policy) Name() string { return p.Object.Namespace + "/" + p.Object.Name }

// Error says what is wrong with a policy: where, in which field, and why.
type Error struct {
	File  string
	Line  int    // 0: not known
	Field string // as spec.ingress[0].ports[1].port; empty where it is the document
	Text  string
}

func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where += ":" + strconv.Itoa(e.Line)
	}
	if e.Field != "" {
		return where + ": " + e.Field + ": " + e.Text
	}
	return where + ": " + e.Text
}

// Parse reads the documents of a YAML file, each a NetworkPolicy of networking.k8s.io/v1. A field that there is not, or that has a value that
// it cannot have, is an error; all of a file's are told, joined, and no policy is given then.
func Parse(file string, data []byte) ([]Policy, error) {
	var all []Policy
	var errs []error
	seen := map[string]int{}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// Where one document cannot be read, the next cannot be found.
			errs = append(errs, syntaxError(file, err))
			break
		}
		if len(document.Content) == 0 || isNull(document.Content[0]) {
			continue
		}
		p, problems := parseDocument(file, document.Content[0])
		for _, e := range problems {
			errs = append(errs, e)
		}
		if len(problems) > 0 {
			continue
		}
		if line, twice := seen[p.Name()]; twice {
			errs = append(errs, &Error{file, document.Content[0].Line, "metadata.name", fmt.Sprintf("%s stands in line %d already", p.Name(), line)})
			continue
		}
		seen[p.Name()] = document.Content[0].Line
		all = append(all, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return all, nil
}

// syntaxError takes the line out of what the YAML library says.
func syntaxError(file string, err error) *Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): (.*)$`).FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1])
		return &Error{File: file, Line: line, Text: m[2]}
	}
	return &Error{File: file, Text: text}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// parseDocument makes a policy of a document that is one.
func parseDocument(file string, n *yaml.Node) (Policy, []*Error) {
	var p Policy
	d := document{file: file, lines: map[string]int{}}
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, "", "want a NetworkPolicy, an object")
		return p, d.errs
	}
	// In this order, whatever the document's: what is wrong is told in the same words each time.
	for _, head := range []struct{ field, want string }{{"apiVersion", "networking.k8s.io/v1"}, {"kind", "NetworkPolicy"}} {
		value, at := scalar(n, head.field)
		if value != head.want {
			d.fail(at, head.field, fmt.Sprintf("%q: want %s", value, head.want))
		}
	}
	if len(d.errs) > 0 {
		return p, d.errs
	}
	d.walk(n, objectType(), "")
	if len(d.errs) > 0 {
		return p, d.errs
	}
	// By way of JSON: the library that reads into the type takes words like y and on for truth values, which this one does not.
	var plain any
	err := n.Decode(&plain)
	var text []byte
	if err == nil {
		text, err = json.Marshal(plain)
	}
	if err == nil {
		err = sigsyaml.UnmarshalStrict(text, &p.Object)
	}
	if err != nil {
		d.fail(n.Line, "", strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "error unmarshaling JSON: "))
		return p, d.errs
	}
	if p.Object.Namespace == "" || p.Object.Namespace == "bridge" {
		p.Object.Namespace = DefaultNamespace
	}
	for _, e := range validate(&p.Object) {
		d.fail(d.line(e.Field), e.Field, strings.TrimPrefix(e.ErrorBody(), "Invalid value: "))
	}
	p.Source = file
	return p, d.errs
}

// scalar gives a field of an object, and its line.
func scalar(n *yaml.Node, field string) (string, int) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == field {
			return n.Content[i+1].Value, n.Content[i+1].Line
		}
	}
	return "", n.Line
}
