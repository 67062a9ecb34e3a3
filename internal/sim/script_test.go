package sim

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

var rewrite = flag.Bool("rewrite", false, "write the scripts' output instead of comparing it") //nolint:gochecknoglobals // a flag

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScripts plays testdata/*.txt and compares what follows each command with what is written there.
func TestScripts(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			synctest.Test(t, func(t *testing.T) { got = play(t, string(script)) })
			if *rewrite {
				err = os.WriteFile(path, got, 0o600)
			} else if !bytes.Equal(got, script) {
				t.Errorf("the broker does something else; if it should, run with -rewrite. It does:\n%s", got)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// play runs the commands and returns the script with what followed each.
func play(t *testing.T, script string) []byte {
	w := newWorld(t)
	defer func() { w.stop() }()
	var out bytes.Buffer
	for text := range strings.Lines(script) {
		text = strings.TrimRight(text, "\n")
		if strings.HasPrefix(text, "  ") {
			continue
		}
		fmt.Fprintln(&out, text)
		if text == "" || text[0] == '#' {
			continue
		}
		words := strings.Fields(text)
		said, err := w.do(words[0], words[1:])
		if err != nil {
			said = append(said, "error: "+err.Error())
		}
		synctest.Wait()
		for _, l := range append(w.news(), said...) {
			fmt.Fprintln(&out, "  "+l)
		}
	}
	return out.Bytes()
}

// news returns what the clients saw since the last time, by time and connection.
func (w *world) news() (lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.seen, func(a, b line) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.conn, b.conn)) })
	for _, l := range w.seen {
		at := w.since(l.at)
		if strings.HasPrefix(l.text, "check ") {
			at = "-"
		}
		lines = append(lines, fmt.Sprintf("%s %s < %s", at, l.conn, l.text))
	}
	w.seen = nil
	return lines
}

// do runs one command.
func (w *world) do(command string, args []string) (said []string, err error) {
	args = append(args, "", "", "", "") // what is missing is empty
	switch command {
	case "tick":
		d, err := time.ParseDuration(args[0])
		<-time.After(d)
		return nil, err
	case "crash":
		w.crash()
		return nil, nil
	case "dump":
		return w.dump(), nil
	case "route", "unroute":
		return nil, w.route(command, args)
	case "connect":
		framing := protocol.FramingG
		if args[2] == "L" {
			framing = protocol.FramingL
		}
		w.connect(args[0], args[1], framing)
		return nil, nil
	}
	c := w.conns[args[0]]
	if c == nil {
		return nil, fmt.Errorf("%s: no connection %q", command, args[0])
	}
	switch command {
	case "drop":
		w.drop(c.name)
		return nil, nil
	case "publish", "prepare":
		return nil, c.publish(command, args[1:])
	case "commit", "rollback":
		c.verdict(0, args[1], command)
		return nil, nil
	case "check-reply":
		r, err := c.oldest(&c.checks, args[1])
		if err == nil {
			c.verdict(r.opaque, args[1], args[2])
		}
		return nil, err
	case "ack", "nack":
		r, err := c.oldest(&c.deliveries, args[1])
		if err == nil {
			c.say(protocol.AppendDeliverAck(nil, c.framing, r.opaque, &r.header, command == "ack", args[2]))
		}
		return nil, err
	}
	return nil, fmt.Errorf("%s is no command", command)
}

// route adds a binding or takes all of a group away.
func (w *world) route(command string, args []string) error {
	group, topic := args[0], args[1]
	i := slices.IndexFunc(w.routes, func(r kite.Route) bool { return r.Group == group && r.Topic == topic })
	if command == "unroute" {
		if i < 0 {
			return fmt.Errorf("%s is not bound to %s", group, topic)
		}
		w.routes = slices.Delete(w.routes, i, i+1)
		w.reroute()
		return nil
	}
	kinds := []string{"direct", "regx", "fanout"}
	b := kite.Binding{Group: group, Topic: topic, Type: kite.BindType(slices.Index(kinds, args[2])), MessageType: args[3], Version: kite.BindingVersion, Durable: true}
	for _, option := range args[4:] {
		switch name, value, _ := strings.Cut(option, "="); name {
		case "volatile":
			b.Durable = false
		case "order":
			b.Order = kite.Ordering(value)
		case "broadcast":
			b.Broadcast = true
		case "":
		default:
			return fmt.Errorf("%s is no option of %s", option, command)
		}
	}
	if err := b.Validate(); err != nil {
		return err
	}
	if i < 0 {
		w.routes = append(w.routes, kite.Route{Topic: topic, Group: group, SinceMs: kite.UnixMs(time.Now())})
		i = len(w.routes) - 1
	}
	w.routes[i].Bindings = append(slices.Clone(w.routes[i].Bindings), b)
	w.reroute()
	return nil
}

// publish sends a message, prepared or committed as the command says.
func (c *conn) publish(command string, args []string) error {
	h := protocol.Header{
		Topic: args[0], MessageType: args[1], MessageID: idOf(args[2]), GroupID: c.group, Commit: command == "publish",
		ExpiredTime: -1, DeliverLimit: 100, CreateTime: time.Now().Unix(),
	}
	body := []byte("body of " + args[2])
	for _, option := range args[3:] {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "limit", "size":
			n, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			if name == "limit" {
				h.DeliverLimit = int32(n)
			} else {
				body = bytes.Repeat([]byte("x"), n)
			}
		case "expire":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			h.ExpiredTime = time.Now().Add(d).Unix()
		case "delay", "key":
			if h.Properties == nil {
				h.Properties = map[string]string{}
			}
			h.Properties[map[string]string{"delay": kite.PropertyDelay, "key": kite.DefaultOrderKey}[name]] = value
		case "fly":
			h.Fly = true
		case "":
		default:
			return fmt.Errorf("%s is no option of %s", option, command)
		}
	}
	c.say(protocol.AppendMessage(nil, c.framing, c.next(), protocol.CmdBytesMessage, &h, body))
	return nil
}

// verdict sends a TxAck about the message.
func (c *conn) verdict(opaque uint32, name, verdict string) {
	raw := protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, &protocol.Header{MessageID: idOf(name), Topic: "trade", GroupID: c.group}, nil)
	var m protocol.MessageView
	frame, _, _ := protocol.FramingG.Next(raw)
	if err := m.Decode(frame.Payload); err != nil {
		c.w.t.Fatal(err)
	}
	status := map[string]int32{"commit": protocol.StatusCommit, "rollback": protocol.StatusRollback}[verdict]
	c.say(protocol.AppendTxAck(nil, c.framing, opaque, m.Header.Raw, status, ""))
}

// idOf makes an id of m5.
func idOf(name string) string {
	digits := strings.TrimPrefix(name, "m")
	return strings.Repeat("0", max(0, 32-len(digits))) + digits
}
