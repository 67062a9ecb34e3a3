package file

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kiteq/kiteq/internal/kite"
)

// maxProblems bounds how many mistakes of one file are named; an operator corrects the first few and
// looks again.
const maxProblems = 20

// walk goes through the nodes of a file and collects what is wrong with them. The nodes are read by hand,
// since a decoder into structs names Go's types, stops at keys that it does not know without saying which
// are known, and takes a key that is written twice for a matter of taste.
type walk struct {
	path     string
	problems []error
	unnamed  int // further problems
	entries  int
}

// refuse notes a mistake at the node's line.
func (w *walk) refuse(n *yaml.Node, format string, args ...any) {
	if len(w.problems) == maxProblems {
		w.unnamed++
		return
	}
	w.problems = append(w.problems, w.at(n, format, args...))
}

// at makes an error that begins with file and line.
func (w *walk) at(n *yaml.Node, format string, args ...any) error {
	return kite.Errorf(kite.Invalid, "%s:%d: %w", w.path, n.Line, fmt.Errorf(format, args...))
}

// err joins the problems.
func (w *walk) err() error {
	if w.unnamed > 0 {
		return errors.Join(append(w.problems, kite.Errorf(kite.Invalid, "%s: %d more mistakes", w.path, w.unnamed))...)
	}
	return errors.Join(w.problems...)
}

// enter counts one more entry, and is false once there are too many.
func (w *walk) enter(n *yaml.Node) bool {
	w.entries++
	if w.entries == maxEntries+1 {
		w.refuse(n, "more than %d pairs of broker and topic, group and topic: use fewer topics for each, or ZooKeeper", maxEntries)
	}
	return w.entries <= maxEntries
}

// target is the node itself, or what the alias stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// fields returns the values of a mapping by their keys, which must be known and there once.
func (w *walk) fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	mapping := target(n)
	if mapping.Kind != yaml.MappingNode {
		w.refuse(n, "%s is %s: write %s: below it", what, kindOf(mapping), strings.Join(known, ":, "))
		return nil
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		switch name := target(key).Value; {
		case !slices.Contains(known, name):
			w.refuse(key, "key %.64q of %s is not known: use %s", name, what, strings.Join(known, ", "))
		case values[name] != nil:
			w.refuse(key, "key %s of %s is there already, at line %d: remove one of them", name, what, values[name].Line)
		default:
			values[name] = value
		}
	}
	return values
}

// list returns the elements of a list. A key without a value is no list: a file may have been cut there.
func (w *walk) list(parent, n *yaml.Node, what string) []*yaml.Node {
	switch {
	case n == nil:
		w.refuse(parent, "%s is missing: write the list, or %s: [] when there is none", what, what)
	case target(n).Kind == yaml.SequenceNode:
		return target(n).Content
	case isEmpty(target(n)):
		w.refuse(n, "%s is empty: write the list, or %s: [] when there is none", what, what)
	default:
		w.refuse(n, "%s is %s: write a list", what, kindOf(target(n)))
	}
	return nil
}

// texts returns the elements of a list of texts.
func (w *walk) texts(parent, n *yaml.Node, what string) []string {
	var all []string
	for _, element := range w.list(parent, n, what) {
		if text, ok := w.text(element, "an element of "+what); ok {
			all = append(all, text)
		}
	}
	return all
}

// text returns a scalar as it is written: a topic 0123 is no number. An empty one counts as missing.
func (w *walk) text(n *yaml.Node, what string) (string, bool) {
	scalar := target(n)
	if scalar.Kind != yaml.ScalarNode || scalar.Value == "" || !slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}, scalar.ShortTag()) {
		w.refuse(n, "%s is %s: write a text", what, kindOf(scalar))
		return "", false
	}
	return scalar.Value, true
}

// required is text of a key that must be there.
func (w *walk) required(parent, n *yaml.Node, what string) (string, bool) {
	if n == nil {
		w.refuse(parent, "%s is missing", what)
		return "", false
	}
	return w.text(n, what)
}

// textOrNone is text of a key that may be empty or not there.
func (w *walk) textOrNone(n *yaml.Node, what string) string {
	if n == nil || isEmpty(target(n)) {
		return ""
	}
	text, _ := w.text(n, what)
	return text
}

// optional decodes the scalar into value when it is there.
func (w *walk) optional(n *yaml.Node, what, allowed string, value any) {
	if n == nil {
		return
	}
	if scalar := target(n); scalar.Kind != yaml.ScalarNode || isEmpty(scalar) || scalar.Decode(value) != nil {
		w.refuse(n, "%s is %s: %s", what, kindOf(scalar), allowed)
	}
}

// kindOf describes a node for messages.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isEmpty(n):
		return "empty"
	}
	return fmt.Sprintf("%.64q", n.Value)
}

func isEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!null" || n.Value == "")
}
