package file

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

const original = `brokers:
  - address: "10.0.0.1:13800"      # dialled by clients
    topics: [ "message","relation","user-profile" ]
    env: "dev"
bindings:
  - groupIds: [ "s-user-profile", "s-audit" ]
    topic: "user-profile"
    messageType: "profile-update"
    bindType: "direct"
    watermark: 1000
    persistent: true
  - groupIds:
      - s-audit
    topic: message
    bindType: FanOut
  - {groupIds: [s-audit], topic: user-profile, messageType: '^pay-\d+$', bindType: regx}
`

// wantOriginal is what the file above says.
func wantOriginal() *picture {
	profile := func(group string) kite.Binding {
		b := kite.Direct(group, "user-profile", "profile-update")
		b.Watermark = 1000
		return b
	}
	fanout, pattern := kite.Fanout("s-audit", "message"), kite.Regx("s-audit", "user-profile", `^pay-\d+$`)
	fanout.Durable, pattern.Durable = false, false
	addrs := []string{"10.0.0.1:13800"}
	return &picture{
		brokers: registry.Brokers{"message": addrs, "relation": addrs, "user-profile": addrs},
		bindings: registry.Bindings{
			"message": {{Group: "s-audit", Bindings: []kite.Binding{fanout}}},
			"user-profile": {
				{Group: "s-audit", Bindings: []kite.Binding{profile("s-audit"), pattern}},
				{Group: "s-user-profile", Bindings: []kite.Binding{profile("s-user-profile")}},
			},
		},
	}
}

// TestParseDelivery reads the keys that the original does not have, and names what they cannot be.
func TestParseDelivery(t *testing.T) {
	t.Parallel()
	const head = "brokers: []\nbindings:\n- {groupIds: [g], topic: t, bindType: fanout, persistent: true, "
	keyed, everybody := kite.Fanout("g", "t"), kite.Fanout("g", "t")
	keyed.Order, keyed.OrderKey, everybody.Broadcast = kite.OrderByKey, "account", true
	for text, want := range map[string]kite.Binding{"order: key, orderKey: account}\n": keyed, "broadcast: true}\n": everybody} {
		p, err := parse("r.yaml", []byte(head+text))
		if err != nil {
			t.Fatal(err)
		}
		if g := p.find("t", "g"); len(g.Bad) != 0 || len(g.Bindings) != 1 || g.Bindings[0] != want {
			t.Errorf("%s: %+v", text, g)
		}
		if line := edit("add", []kite.Binding{want}); !strings.Contains(line, strings.TrimSpace(strings.ReplaceAll(text, "account", `"account"`))) {
			t.Errorf("%s: the line to add is %s", text, line)
		}
	}
	p, err := parse("r.yaml", []byte(head+"order: always}\n"))
	if err != nil || len(p.find("t", "g").Bad) != 1 || !strings.Contains(p.find("t", "g").Bad[0].Error(), `order "always"`) {
		t.Errorf("a bad order: %+v, %v", p, err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"as shipped":                original,
		"byte order mark":           "\ufeff" + original,
		"carriage returns":          strings.ReplaceAll(original, "\n", "\r\n"),
		"byte order mark and CRLF":  "\ufeff" + strings.ReplaceAll(original, "\n", "\r\n"),
		"document markers":          "---\n" + original + "...\n",
		"no newline at the end":     strings.TrimSuffix(original, "\n"),
		"comments before and after": "# brokers\n\n" + original + "# end\n",
		"aliases":                   strings.NewReplacer(`"s-audit"`, "&audit s-audit", `"user-profile"`+"\n    message", `&profile "user-profile"`+"\n    message", "- s-audit", "- *audit", "topic: user-profile", "topic: *profile").Replace(original),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parse("r.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantOriginal(), got, cmp.AllowUnexported(picture{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseNamesTextsAsWritten(t *testing.T) {
	t.Parallel()
	p := mustParse(t, "brokers: [{address: 'broker1:13800', topics: [0123, on, 2020-01-01, 1.50], env: }]\n"+
		"bindings: [{groupIds: [007], topic: true, messageType: 1e3, bindType: direct, watermark: 0x10, persistent: yes}]")
	for _, topic := range []string{"0123", "on", "2020-01-01", "1.50"} {
		if !slices.Equal(p.brokers[topic], []string{"broker1:13800"}) {
			t.Errorf("topic %s has brokers %v", topic, p.brokers[topic])
		}
	}
	want := kite.Direct("007", "true", "1e3")
	want.Watermark = 16
	if g := p.find("true", "007"); g == nil || !slices.Equal(g.Bindings, []kite.Binding{want}) {
		t.Errorf("bound is %+v, want %+v", g, want)
	}
}

// TestTrapUnsortedTopics: the original finds a topic by binary search in the list as it is written.
func TestTrapUnsortedTopics(t *testing.T) {
	t.Parallel()
	p := mustParse(t, "bindings: []\nbrokers:\n- {address: 'h:1', topics: [user-profile, relation, message, account]}\n")
	for _, topic := range []string{"user-profile", "relation", "message", "account"} {
		if !slices.Equal(p.brokers[topic], []string{"h:1"}) {
			t.Errorf("topic %s has brokers %v, want h:1", topic, p.brokers[topic])
		}
	}
}

// TestTrapDuplicateAddress: the original ignores a file in which an address is twice.
func TestTrapDuplicateAddress(t *testing.T) {
	t.Parallel()
	p := mustParse(t, "bindings: []\nbrokers:\n- {address: 'b:1', topics: [x, y]}\n- {address: 'a:1', topics: [y]}\n- {address: 'b:1', topics: [y, z, z]}\n")
	want := registry.Brokers{"x": {"b:1"}, "y": {"a:1", "b:1"}, "z": {"b:1"}}
	if diff := cmp.Diff(want, p.brokers); diff != "" {
		t.Error(diff)
	}
	if want := []string{"r.yaml: broker b:1 is listed at lines 3, 5: it serves the topics of all of them"}; !slices.Equal(p.notes, want) {
		t.Errorf("notes are %q, want %q", p.notes, want)
	}
}

// TestTrapUnknownBindType: for the original everything else is direct.
func TestTrapUnknownBindType(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `brokers: []
bindings:
- {groupIds: [s-a], topic: trade, messageType: "pay-.*", bindType: regex}
- {groupIds: [s-a, s-b], topic: trade, messageType: pay, bindType: DIRECT}
- {groupIds: [s-a], topic: trade, messageType: pay}
- {groupIds: [s-a], topic: trade, messageType: "(", bindType: regx}
- {groupIds: [s-a], topic: trade, bindType: direct}
- {groupIds: [s-c], topic: trade, messageType: pay, bindType: ""}
`)
	a, b := p.find("trade", "s-a"), p.find("trade", "s-b")
	if a == nil || len(a.Bindings) != 1 || len(a.Bad) != 4 || b == nil || len(b.Bindings) != 1 || len(b.Bad) != 0 {
		t.Fatalf("s-a is %+v, s-b is %+v; want one binding each, and four left out of s-a", a, b)
	}
	for i, parts := range [][]string{
		{"r.yaml:3: ", `bindType "regex" is not known: write direct, regx or fanout`},
		{"r.yaml:5: ", "bindType is missing"},
		{"r.yaml:6: ", `pattern "(" is no RE2 expression`},
		{"r.yaml:7: ", "messageType is missing", "direct"},
	} {
		for _, part := range append(parts, "group s-a", "topic trade") {
			if !strings.Contains(a.Bad[i].Error(), part) || !errors.Is(a.Bad[i], kite.Invalid) {
				t.Errorf("left out: %q, want code %v and %q", a.Bad[i], kite.Invalid, part)
			}
		}
	}
}

// TestTrapGroupIDs: a list of groups is a binding for each.
func TestTrapGroupIDs(t *testing.T) {
	t.Parallel()
	p := mustParse(t, "brokers: []\nbindings:\n- {groupIds: [s-b, s-a, s-b], topic: x, bindType: fanout}\n- {groupIds: [s-a], topic: y, bindType: fanout}\n")
	fanout := func(group, topic string) registry.GroupBindings {
		b := kite.Fanout(group, topic)
		b.Durable = false
		return registry.GroupBindings{Group: group, Bindings: []kite.Binding{b}}
	}
	want := registry.Bindings{"x": {fanout("s-a", "x"), fanout("s-b", "x")}, "y": {fanout("s-a", "y")}}
	if diff := cmp.Diff(want, p.bindings); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const none = "\nbindings: []\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":               {"", "r.yaml: the file is empty: write brokers: [] and bindings: []"},
		"blank":               {" \n\n", "the file is empty"},
		"comments only":       {"# nothing\n", "the file is empty"},
		"only a mark":         {"\ufeff", "the file is empty"},
		"null":                {"~\n", "the file is empty"},
		"a text":              {"hello\n", `r.yaml:1: the file is "hello": write brokers:, bindings: below it`},
		"a list":              {"- a\n", "the file is a list"},
		"no bindings":         {"brokers: []\n", "r.yaml:1: bindings is missing: write the list, or bindings: []"},
		"cut after the key":   {"brokers: []\nbindings:\n", "r.yaml:2: bindings is empty: write the list, or bindings: []"},
		"no brokers":          {"bindings: []\n", "brokers is missing"},
		"unknown key":         {"brokers: []\nbindings: []\nbroker: []\n", `r.yaml:3: key "broker" of the file is not known: use brokers, bindings`},
		"unknown broker key":  {"brokers:\n- {address: 'h:1', topics: [], addr: x}" + none, `r.yaml:2: key "addr" of a broker is not known: use address, topics, env`},
		"unknown binding key": {"brokers: []\nbindings:\n- {groupIds: [g], topic: t, bindType: fanout,\n   groupId: g}\n", `r.yaml:4: key "groupId" of a binding is not known`},
		"merge key":           {"brokers: []\nbindings:\n- &a {groupIds: [g], topic: t, bindType: fanout}\n- {<<: *a, topic: u}\n", `r.yaml:4: key "<<"`},
		"key twice":           {"brokers: []\nbindings: []\nbrokers: []\n", "r.yaml:3: key brokers of the file is there already, at line 1"},
		"brokers no list":     {"brokers: {address: 'h:1'}" + none, "r.yaml:1: brokers is a mapping: write a list"},
		"broker no mapping":   {"brokers: ['h:1']" + none, `a broker is "h:1"`},
		"no address":          {"brokers:\n- {topics: []}" + none, "r.yaml:2: address is missing"},
		"address no text":     {"brokers:\n- {address: [a], topics: []}" + none, "address is a list: write a text"},
		"address empty":       {"brokers:\n- {address: '', topics: []}" + none, "address is empty: write a text"},
		"no port":             {"brokers:\n- {address: 10.0.0.1, topics: []}" + none, `address "10.0.0.1" is not host:port`},
		"no host":             {"brokers:\n- {address: ':13800', topics: []}" + none, `address ":13800" is not host:port`},
		"port 0":              {"brokers:\n- {address: 'h:0', topics: []}" + none, `address "h:0"`},
		"two addresses":       {"brokers:\n- {address: 'h:1,h:2', topics: []}" + none, `address "h:1,h:2"`},
		"no topics":           {"brokers:\n- {address: 'h:1'}" + none, "r.yaml:2: topics is missing"},
		"topics no list":      {"brokers:\n- {address: 'h:1', topics: message}" + none, `topics is "message": write a list`},
		"bad topic":           {"brokers:\n- {address: 'h:1', topics: [a/b]}" + none, `r.yaml:2: topic "a/b"`},
		"null topic":          {"brokers:\n- {address: 'h:1', topics: [~]}" + none, "an element of topics is empty"},
		"binary topic":        {"brokers:\n- {address: 'h:1', topics: [!!binary aGk=]}" + none, "an element of topics is"},
		"env no text":         {"brokers:\n- {address: 'h:1', topics: [], env: [dev]}" + none, "env is a list"},
		"no groups":           {"brokers: []\nbindings:\n- {topic: t, bindType: fanout}\n", "r.yaml:3: groupIds is missing or empty"},
		"empty groups":        {"brokers: []\nbindings:\n- {groupIds: [], topic: t, bindType: fanout}\n", "groupIds is missing or empty"},
		"bad group":           {"brokers: []\nbindings:\n- {groupIds: [a/b], topic: t, bindType: fanout}\n", `group "a/b"`},
		"no topic":            {"brokers: []\nbindings:\n- {groupIds: [g], bindType: fanout}\n", "r.yaml:3: topic is missing"},
		"bad topic bound":     {"brokers: []\nbindings:\n- {groupIds: [g], topic: 'a b', bindType: fanout}\n", `topic "a b"`},
		"watermark":           {"brokers: []\nbindings:\n- {groupIds: [g], topic: t, bindType: fanout, watermark: many}\n", `watermark is "many": write deliveries a second`},
		"watermark too large": {"brokers: []\nbindings:\n- {groupIds: [g], topic: t, bindType: fanout, watermark: 3000000000}\n", `watermark is "3000000000"`},
		"watermark null":      {"brokers: []\nbindings:\n- {groupIds: [g], topic: t, bindType: fanout, watermark: }\n", "watermark is empty"},
		"persistent":          {"brokers: []\nbindings:\n- {groupIds: [g], topic: t, bindType: fanout, persistent: 2}\n", `persistent is "2": write true or false`},
		"bindType no text":    {"brokers: []\nbindings:\n- {groupIds: [g], topic: t, bindType: [fanout]}\n", "bindType is a list"},
		"second document":     {"brokers: []\nbindings: []\n---\nbrokers: []\n", "r.yaml:3: a second document begins"},
		"broken at the end":   {"brokers: []\nbindings: []\n---\n[\n", "no YAML"},
		"syntax":              {"brokers:\n- address: 'h:1'\n  topics: [a, b\nbindings: []\n", "no YAML"},
		"tab":                 {"brokers:\n\t- address: x\n", "r.yaml:2: no YAML: found character that cannot start any token"},
		"unknown anchor":      {"brokers: *nobody\n", "no YAML"},
		"no UTF-8":            {"brokers: [\xff]\n", "no YAML"},
		"contains itself":     {"brokers: &a [*a]" + none, "a broker is a list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse("r.yaml", []byte(c.text))
			if !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want code %v and %q", err, kite.Invalid, c.want)
			}
			if strings.Contains(fmt.Sprint(err), "file.") || strings.Contains(fmt.Sprint(err), "struct") {
				t.Errorf("the error speaks of Go: %v", err)
			}
		})
	}
}

func TestParseNamesAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := parse("r.yaml", []byte("brokers:\n- {address: x, topics: [a/b]}\nbindings:\n- {groupIds: [g], topic: t, bindType: fanout, persistent: 7}\n"))
	for _, part := range []string{"r.yaml:2: address", "r.yaml:2: topic", "r.yaml:4: persistent"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error: %v", part, err)
		}
	}
	_, err = parse("r.yaml", []byte("brokers: []\nbindings:\n"+strings.Repeat("- x\n", maxProblems+5)))
	if err == nil || strings.Count(err.Error(), "\n") != maxProblems || !strings.Contains(err.Error(), "r.yaml: 5 more mistakes") {
		t.Errorf("%d mistakes give: %v", maxProblems+5, err)
	}
}

// TestParseBoundsAliases: a small file that names very much is refused before it fills the memory.
func TestParseBoundsAliases(t *testing.T) {
	t.Parallel()
	const many = 1000
	var text strings.Builder
	text.WriteString("brokers: []\nbindings:\n- {groupIds: &all [s")
	for i := range many {
		fmt.Fprintf(&text, ", s-%d", i)
	}
	text.WriteString("], topic: t, bindType: fanout}\n")
	for i := range many {
		fmt.Fprintf(&text, "- {groupIds: *all, topic: t%d, bindType: fanout}\n", i)
	}
	p, err := parse("r.yaml", []byte(text.String()))
	if err == nil || !strings.Contains(err.Error(), "more than 100000 pairs") {
		t.Errorf("a million bindings: %v", err)
	}
	if total := len(p.bindings) * len(p.bindings["t1"]); total > maxEntries {
		t.Errorf("%d bindings were made before the file was refused", total)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		original, "\ufeff" + original, "", "brokers: []\nbindings: []", "brokers: &a [*a]", "a: b: c", "- - -", "{[", "--- 1\n--- 2",
		"bindings: [{groupIds: [g], topic: t, bindType: regx, messageType: '('}]\nbrokers: [{address: '[::1]:1', topics: [a, a]}]", "? a\n: b", "!!map {}", "%YAML 1.1\n---\n[]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parse("r.yaml", data)
		if err != nil {
			if !errors.Is(err, kite.Invalid) || !strings.HasPrefix(err.Error(), "r.yaml:") {
				t.Fatalf("error %v, want code %v and the path first", err, kite.Invalid)
			}
			return
		}
		for topic, addrs := range p.brokers {
			if kite.CheckTopic(topic) != nil || !slices.IsSorted(addrs) || len(addrs) == 0 || slices.ContainsFunc(addrs, func(a string) bool { return checkAddress(a) != nil }) {
				t.Fatalf("topic %q has brokers %q", topic, addrs)
			}
		}
		for topic, groups := range p.bindings {
			sorted := slices.IsSortedFunc(groups, func(a, b registry.GroupBindings) int { return strings.Compare(a.Group, b.Group) })
			if kite.CheckTopic(topic) != nil || !sorted || len(groups) == 0 {
				t.Fatalf("on topic %q are %+v", topic, groups)
			}
			for _, g := range groups {
				if len(g.Bindings)+len(g.Bad) == 0 {
					t.Fatalf("%+v is bound by nothing", g)
				}
				for _, b := range g.Bindings {
					if err := b.Validate(); err != nil || b.Topic != topic || b.Group != g.Group {
						t.Fatalf("%+v is not valid or of another: %v", b, err)
					}
				}
			}
		}
	})
}

func mustParse(t *testing.T, text string) *picture {
	t.Helper()
	p, err := parse("r.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
