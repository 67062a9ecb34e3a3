package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// The format, which is that of the original broker:
//
//	brokers:
//	  - address: "10.0.0.1:13800"       # host:port, as clients dial it
//	    topics: ["message", "trade"]    # in any order
//	    env: "dev"                      # read, never used
//	bindings:
//	  - groupIds: ["s-trade"]           # one binding for each
//	    topic: "trade"
//	    messageType: "pay-succ"         # not needed for fanout
//	    bindType: "direct"              # direct | regx | fanout, in any case
//	    watermark: 1000                 # deliveries a second; the broker's default without it
//	    persistent: true                # false without it
//	    order: "key"                    # key | topic, ours: none waits without it
//	    orderKey: "account"             # ours: kiteq-key without it
//	    broadcast: false                # ours: true brings each message to every member
//
// What is wrong has two degrees. A binding that is understood as the binding of a group to a topic, and
// whose kind or pattern is wrong, is left out and named in that group's Bad: the others go on. Everything
// else makes the whole file invalid, since it is not known whom it concerns.

// parse reads the file's content. Errors begin with path and line.
func parse(path string, data []byte) (*picture, error) {
	root, err := decode(path, data)
	if err != nil {
		return nil, err
	}
	w := &walk{path: path}
	top := w.fields(root, "the file", "brokers", "bindings")
	p := &picture{brokers: registry.Brokers{}, bindings: registry.Bindings{}}
	if top != nil {
		w.brokers(p, w.list(root, top["brokers"], "brokers"))
		w.bindings(p, w.list(root, top["bindings"], "bindings"))
	}
	return p, w.err()
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// decode returns the one document of the file.
func decode(path string, data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if err == io.EOF || err == nil && document.Content[0].ShortTag() == "!!null" {
		return nil, kite.Errorf(kite.Invalid, "%s: the file is empty: write brokers: [] and bindings: [] when there are none", path)
	}
	if err == nil {
		if err = decoder.Decode(&second); err == io.EOF {
			return document.Content[0], nil
		}
		if err == nil {
			return nil, kite.Errorf(kite.Invalid, "%s:%d: a second document begins: remove the line '---' and keep one", path, second.Line)
		}
	}
	m := syntaxError.FindStringSubmatch(err.Error())
	if m == nil || m[1] == "" {
		return nil, kite.Errorf(kite.Invalid, "%s: no YAML: %w", path, err)
	}
	return nil, kite.Errorf(kite.Invalid, "%s:%s: no YAML: %s: look at this line and the one before, and indent with spaces", path, m[1], m[2])
}

// brokers adds what the elements of the list say to the picture.
func (w *walk) brokers(p *picture, elements []*yaml.Node) {
	lines := map[string][]string{} // of each address
	for _, n := range elements {
		f := w.fields(n, "a broker", "address", "topics", "env")
		if f == nil {
			continue
		}
		addr, ok := w.required(n, f["address"], "address")
		if ok {
			if err := checkAddress(addr); err != nil {
				w.refuse(f["address"], "%w", err)
			}
			lines[addr] = append(lines[addr], strconv.Itoa(n.Line))
		}
		if env := f["env"]; env != nil && target(env).Kind != yaml.ScalarNode {
			w.refuse(env, "env is %s: write a text", kindOf(target(env)))
		}
		for _, topic := range w.texts(n, f["topics"], "topics") {
			if err := kite.CheckTopic(topic); err != nil {
				w.refuse(f["topics"], "%w", err)
				continue
			}
			if !w.enter(n) {
				return
			}
			p.brokers[topic] = append(p.brokers[topic], addr)
		}
	}
	for topic, addrs := range p.brokers {
		slices.Sort(addrs)
		p.brokers[topic] = slices.Compact(addrs)
	}
	for _, addr := range slices.Sorted(maps.Keys(lines)) {
		if at := lines[addr]; len(at) > 1 {
			p.notes = append(p.notes, fmt.Sprintf("%s: broker %s is listed at lines %s: it serves the topics of all of them", w.path, addr, strings.Join(at, ", ")))
		}
	}
}

// checkAddress admits what can be dialled.
func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if number, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || number == 0 || strings.ContainsAny(host, " \t/") {
		return fmt.Errorf("address %q is not host:port: write it as clients dial it, as in 10.0.0.1:13800", addr)
	}
	return nil
}

// bindings adds what the elements of the list say to the picture.
func (w *walk) bindings(p *picture, elements []*yaml.Node) {
	byGroup := map[[2]string]*registry.GroupBindings{} // topic, group
	for _, n := range elements {
		f := w.fields(n, "a binding", "groupIds", "topic", "messageType", "bindType", "watermark", "persistent",
			"order", "orderKey", "broadcast")
		if f == nil {
			continue
		}
		b, bad, ok := w.binding(n, f)
		for _, group := range w.groups(n, f["groupIds"]) {
			if err := kite.CheckGroup(group); err != nil {
				w.refuse(f["groupIds"], "%w", err)
				continue
			}
			if !ok {
				continue
			}
			if !w.enter(n) {
				return
			}
			key := [2]string{b.Topic, group}
			if byGroup[key] == nil {
				byGroup[key] = &registry.GroupBindings{Group: group}
			}
			b.Group = group
			w.add(byGroup[key], n, b, bad)
		}
	}
	for key, g := range byGroup {
		p.bindings[key[0]] = append(p.bindings[key[0]], *g)
	}
	for _, groups := range p.bindings {
		slices.SortFunc(groups, func(a, b registry.GroupBindings) int { return strings.Compare(a.Group, b.Group) })
	}
}

// groups returns the names in groupIds. Nobody is no group: the binding would silently do nothing.
func (w *walk) groups(binding, n *yaml.Node) []string {
	if n == nil || isEmpty(target(n)) || target(n).Kind == yaml.SequenceNode && len(target(n).Content) == 0 {
		w.refuse(binding, "groupIds is missing or empty: name the group, or remove the binding")
		return nil
	}
	return w.texts(binding, n, "groupIds")
}

// add puts a binding to those of its group, or to what was left out of them.
func (w *walk) add(g *registry.GroupBindings, n *yaml.Node, b kite.Binding, bad error) {
	if bad == nil {
		bad = b.Validate()
	} else {
		bad = fmt.Errorf("binding of group %s to topic %s: %w", b.Group, b.Topic, bad)
	}
	switch {
	case bad != nil:
		g.Bad = append(g.Bad, w.at(n, "%w", bad))
	case !slices.Contains(g.Bindings, b):
		g.Bindings = append(g.Bindings, b)
	}
}

// binding reads everything but the groups. bad says why such a binding is left out, ok is false when it
// is not even known of which topic it is.
func (w *walk) binding(n *yaml.Node, f map[string]*yaml.Node) (b kite.Binding, bad error, ok bool) {
	b.Version = kite.BindingVersion
	if b.Topic, ok = w.required(n, f["topic"], "topic"); ok {
		if err := kite.CheckTopic(b.Topic); err != nil {
			w.refuse(f["topic"], "%w", err)
			ok = false
		}
	}
	w.optional(f["watermark"], "watermark", "write deliveries a second, a whole number", &b.Watermark)
	w.optional(f["persistent"], "persistent", "write true or false", &b.Durable)
	w.optional(f["broadcast"], "broadcast", "write true or false", &b.Broadcast)
	b.Order, b.OrderKey = kite.Ordering(w.textOrNone(f["order"], "order")), w.textOrNone(f["orderKey"], "orderKey")

	kind := w.textOrNone(f["bindType"], "bindType")
	b.MessageType = w.textOrNone(f["messageType"], "messageType")
	switch strings.ToLower(kind) {
	case "direct":
		b.Type = kite.BindDirect
	case "regx":
		b.Type = kite.BindRegx
	case "fanout":
		b.Type = kite.BindFanout
		if b.MessageType == "" {
			b.MessageType = "*"
		}
	case "":
		bad = errors.New("bindType is missing: write direct, regx or fanout")
	default: // direct, for the original: a typing error that nobody noticed
		bad = fmt.Errorf("bindType %.64q is not known: write direct, regx or fanout", kind)
	}
	if bad == nil && b.MessageType == "" {
		bad = fmt.Errorf("messageType is missing: write the one that %s compares with", b.Type)
	}
	return b, bad, ok
}
