package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

func binding(b kite.Binding, watermark int32, durable bool) kite.Binding {
	b.Watermark, b.Durable = watermark, durable
	return b
}

func TestBindingsGolden(t *testing.T) {
	t.Parallel()
	for file, bindings := range map[string][]kite.Binding{
		"binding_direct.json": {binding(kite.Direct("s-golden", "trade", "pay-succ"), 1000, true)},
		"binding_regx.json":   {binding(kite.Regx("s-golden", "trade", `pay-\d+`), -1, false)},
		"binding_fanout.json": {binding(kite.Fanout("s-golden", "trade"), 8000, true)},
		"binding_two_entries.json": {
			binding(kite.Direct("s-golden", "trade", "pay-succ"), 1000, true),
			binding(kite.Direct("s-golden", "trade", "pay-fail"), 1000, true),
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := registry.EncodeBindings(bindings)
			if err != nil || string(got) != string(want) {
				t.Errorf("encoded:\n%s\nwant:\n%s\nerror %v", got, want, err)
			}
			good, bad := registry.DecodeBindings("trade", "s-golden", want)
			if len(bad) != 0 || !reflect.DeepEqual(good, bindings) {
				t.Errorf("decoded %+v, bad %v, want %+v", good, bad, bindings)
			}
		})
	}
}

func TestEncodeBindings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		bindings []kite.Binding
		want     string
		code     kite.Code
		says     string
	}{
		"none":        {want: "[]"},
		"order":       {bindings: []kite.Binding{{Group: "g", Topic: "t", MessageType: "*", Type: kite.BindFanout, Order: kite.OrderByKey, OrderKey: "account"}}, want: `[{"groupId":"g","topic":"t","messageType":"*","bindType":2,"version":"1.0.0","watermark":0,"persistent":false,"order":"key","orderKey":"account"}]`},
		"broadcast":   {bindings: []kite.Binding{{Group: "g", Topic: "t", MessageType: "*", Type: kite.BindFanout, Broadcast: true}}, want: `[{"groupId":"g","topic":"t","messageType":"*","bindType":2,"version":"1.0.0","watermark":0,"persistent":false,"broadcast":true}]`},
		"escapes":     {bindings: []kite.Binding{kite.Direct("g", "t", "<&>")}, want: `[{"groupId":"g","topic":"t","messageType":"\u003c\u0026\u003e","bindType":0,"version":"1.0.0","watermark":0,"persistent":true}]`},
		"version":     {bindings: []kite.Binding{{Group: "g", Topic: "t", MessageType: "a"}}, want: `[{"groupId":"g","topic":"t","messageType":"a","bindType":0,"version":"1.0.0","watermark":0,"persistent":false}]`},
		"invalid":     {bindings: []kite.Binding{kite.Regx("g", "t", "(")}, code: kite.Invalid, says: `"("`},
		"other topic": {bindings: []kite.Binding{kite.Fanout("g", "t"), kite.Fanout("g", "u")}, code: kite.Invalid, says: "topic u"},
		"other group": {bindings: []kite.Binding{kite.Fanout("g", "t"), kite.Fanout("h", "t")}, code: kite.Invalid, says: "group h"},
		"not UTF-8":   {bindings: []kite.Binding{kite.Direct("g", "t", "\xff")}, code: kite.Invalid, says: `"\xff"`},
		"too large":   {bindings: []kite.Binding{kite.Direct("g", "t", strings.Repeat("x", registry.MaxBindingData))}, code: kite.TooLarge, says: "fanout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := registry.EncodeBindings(tc.bindings)
			if string(got) != tc.want || kite.CodeOf(err) != tc.code {
				t.Fatalf("got %s, error %v; want %s, code %v", got, err, tc.want, tc.code)
			}
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %q does not say %q", err, tc.says)
			}
		})
	}
}

func TestEncodeLeavesInputAlone(t *testing.T) {
	t.Parallel()
	in := []kite.Binding{{Group: "g", Topic: "t"}}
	if _, err := registry.EncodeBindings(in); err != nil || in[0].Version != "" {
		t.Fatalf("error %v, input now %+v", err, in)
	}
}

func TestDecodeBindings(t *testing.T) {
	t.Parallel()
	const ok = `{"groupId":"g","topic":"t","messageType":"a","bindType":0,"version":"1.0.0","watermark":5,"persistent":true}`
	fine := binding(kite.Direct("g", "t", "a"), 5, true)
	for name, tc := range map[string]struct {
		data string
		good []kite.Binding
		bad  []string // a part of each error
	}{
		"empty":            {data: ""},
		"blank":            {data: " \n"},
		"none":             {data: "[]"},
		"null":             {data: "null"},
		"one":              {data: "[" + ok + "]", good: []kite.Binding{fine}},
		"unknown key":      {data: "[" + strings.Replace(ok, "{", `{"colour":["red"],`, 1) + "]", good: []kite.Binding{fine}},
		"no JSON":          {data: "]broken", bad: []string{`"]broken"`}},
		"truncated":        {data: "[" + ok, bad: []string{"no JSON array"}},
		"object":           {data: ok, bad: []string{"no JSON array"}},
		"number inside":    {data: "[7," + ok + "]", good: []kite.Binding{fine}, bad: []string{"element 0"}},
		"unknown bindType": {data: "[" + ok + "," + strings.Replace(ok, `"bindType":0`, `"bindType":3`, 1) + "]", good: []kite.Binding{fine}, bad: []string{"bindType 3"}},
		"no bindType":      {data: "[" + strings.Replace(ok, `"bindType":0,`, "", 1) + "," + ok + "]", good: []kite.Binding{fine}, bad: []string{"bindType -1"}},
		"broken pattern":   {data: `[{"groupId":"g","topic":"t","messageType":"a(","bindType":1},` + ok + "]", good: []kite.Binding{fine}, bad: []string{`"a("`}},
		"wrong topic":      {data: "[" + strings.Replace(ok, `"t"`, `"u"`, 1) + "," + ok + "]", good: []kite.Binding{fine}, bad: []string{`topic "u"`}},
		"wrong group":      {data: "[" + strings.Replace(ok, `"g"`, `"h"`, 1) + "," + ok + "]", good: []kite.Binding{fine}, bad: []string{`groupId "h"`}},
		"huge watermark":   {data: "[" + strings.Replace(ok, "5", "5000000000", 1) + "," + ok + "]", good: []kite.Binding{fine}, bad: []string{"element 0"}},
		"two bad":          {data: "[{}," + ok + ",{}]", good: []kite.Binding{fine}, bad: []string{"element 0", "element 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, bad := registry.DecodeBindings("t", "g", []byte(tc.data))
			if diff := cmp.Diff(tc.good, good); diff != "" {
				t.Error(diff)
			}
			if len(bad) != len(tc.bad) {
				t.Fatalf("bad: %v, want %d", bad, len(tc.bad))
			}
			for i, part := range tc.bad {
				if !strings.Contains(bad[i].Error(), part) || !errors.Is(bad[i], kite.Invalid) {
					t.Errorf("bad[%d] is %q, want code %v and %q in it", i, bad[i], kite.Invalid, part)
				}
			}
		})
	}
}

func FuzzDecodeBindings(f *testing.F) {
	seeds, err := filepath.Glob("testdata/binding_*.json")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("seeds %v, error %v", seeds, err)
	}
	for _, file := range seeds {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("trade", "s-golden", data)
	}
	f.Add("t", "g", []byte(`[{"groupId":"g","topic":"t","bindType":1,"messageType":"("},null,[]]`))
	f.Fuzz(func(t *testing.T, topic, group string, data []byte) {
		good, bad := registry.DecodeBindings(topic, group, data)
		for _, b := range good {
			if b.Topic != topic || b.Group != group || b.Validate() != nil {
				t.Fatalf("%+v came out of the node of group %q, topic %q", b, group, topic)
			}
		}
		for _, err := range bad {
			if !errors.Is(err, kite.Invalid) {
				t.Fatalf("%v has not the code %v", err, kite.Invalid)
			}
		}
		again, err := registry.EncodeBindings(good)
		if err != nil {
			if errors.Is(err, kite.TooLarge) {
				return
			}
			t.Fatalf("what was read cannot be written: %v", err)
		}
		for i := range good { // Encode fills an absent version in
			if good[i].Version == "" {
				good[i].Version = kite.BindingVersion
			}
		}
		back, bad := registry.DecodeBindings(topic, group, again)
		if len(bad) != 0 || !cmp.Equal(good, back) {
			t.Fatalf("%+v became %+v, bad %v", good, back, bad)
		}
	})
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		registry.TopicNode("trade"):                       "/kiteq/server/trade",
		registry.BrokerNode("trade", "10.0.0.1:13800"):    "/kiteq/server/trade/10.0.0.1:13800",
		registry.AliveNode("10.0.0.1:13800"):              "/kiteq/alive_servers/10.0.0.1:13800",
		registry.KnownNode("10.0.0.1:13800"):              "/kiteq/all_servers/10.0.0.1:13800",
		registry.ProducersNode("trade"):                   "/kiteq/pub/trade",
		registry.ProducerNode("trade", "p-trade", "web1"): "/kiteq/pub/trade/p-trade/web1",
		registry.BindingsNode("trade"):                    "/kiteq/sub/trade",
		registry.BindingNode("trade", "s-trade"):          "/kiteq/sub/trade/s-trade-bind",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	above := registry.Ancestors(registry.ProducerNode("trade", "p", "web1"))
	if diff := cmp.Diff([]string{"/kiteq", "/kiteq/pub", "/kiteq/pub/trade", "/kiteq/pub/trade/p"}, above); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"s-bind": "s", "a-bind-bind": "a-bind", "-bind": "", "other": ""} {
		group, ok := registry.GroupOfNode(name)
		if ok != (want != "") || ok && group != want {
			t.Errorf("GroupOfNode(%q) = %q, %v, want %q", name, group, ok, want)
		}
	}
}
