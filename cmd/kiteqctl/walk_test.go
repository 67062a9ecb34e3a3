package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/server"
)

var rewrite = flag.Bool("rewrite", false, "write the walk's output instead of comparing it") //nolint:gochecknoglobals // a flag

const walkScript = "testdata/walk.txt"

// elsewhere are the commands that the walk has no success of, and where one is.
var elsewhere = map[string]string{ //nolint:gochecknoglobals // never written
	"import-mysql": "it needs a MySQL: TestImportCommand",
}

// TestWalk plays testdata/walk.txt against a running broker: what each command prints must be what stands there. Every
// command must be played with success, and with an error.
func TestWalk(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(walkScript)
	if err != nil {
		t.Fatal(err)
	}
	w := newWalk(t)
	got := w.play(t, string(script))
	if *rewrite {
		if err := os.WriteFile(walkScript, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(strings.Split(string(script), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("other output (-script +now); if it should be so, run with -rewrite:\n%s", diff)
	}
	root := newRoot(terminal{})
	root.InitDefaultCompletionCmd()
	for _, name := range leaves(root, "") {
		if !w.done[name] && elsewhere[name] == "" {
			t.Errorf("%s has no success: add one to %s", name, walkScript)
		}
		if !w.failed[name] {
			t.Errorf("%s has no error: add one to %s", name, walkScript)
		}
	}
}

// leaves lists the commands that do something, by the words that call them.
func leaves(cmd *cobra.Command, above string) (all []string) {
	for _, c := range cmd.Commands() {
		name := strings.TrimSpace(above + " " + c.Name())
		if c.HasSubCommands() {
			all = append(all, leaves(c, name)...)
		} else if c.Runnable() {
			all = append(all, name)
		}
	}
	return all
}

// walk is a broker and what commands do to it.
type walk struct {
	registry     string
	replacer     *strings.Replacer // variables of the script
	normal       *strings.Replacer // what differs from run to run
	done, failed map[string]bool
}

func newWalk(t *testing.T) *walk {
	t.Helper()
	dir := t.TempDir()
	c := conf.Default()
	c.Bind = freePair(t)
	c.Network.Addr = c.Bind
	c.ZKHost, c.Store, c.BindingsFile = "embedded://127.0.0.1:0?data=", "memory://", ""
	c.Topics, c.DrainTimeout = []string{"trade", "stock"}, 100*time.Millisecond
	s, err := server.New(c, server.Control{Reload: func() (conf.Config, error) { return c, nil }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the broker ended: %v", err)
		}
	})
	select {
	case <-s.Started():
	case err := <-ended:
		t.Fatal(err)
	}
	w := &walk{registry: s.RegistryAddr(), done: map[string]bool{}, failed: map[string]bool{}}
	for name, change := range map[string]func([]byte) []byte{
		"sound":   nil,
		"torn":    func(b []byte) []byte { copy(b[bytes.LastIndex(b, []byte("p-g"))+200:], "rubbish"); return b },
		"damaged": func(b []byte) []byte { b[bytes.Index(b, []byte("order"))]++; return b },
	} {
		if err := os.Rename(closedJournal(t, change), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"good.toml": "topics = [\"trade\"]\n",
		"bad.toml":  "topics = [\"a/b\"]\ncolour = \"red\"\n",
		"bench":     "#!/bin/sh\ncase \"$*\" in *-fail*) exit 1;; esac\necho measured \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.bind(t, kite.Direct("s-books", "trade", "pay"), kite.Direct("s-picky", "trade", "refund"))
	w.replacer = strings.NewReplacer("$BROKER", s.Addr(), "$ADMIN", s.AdminAddr(), "$DIR", dir)
	w.normal = strings.NewReplacer(s.AdminAddr(), "$ADMIN", s.Addr(), "$BROKER", s.RegistryAddr(), "$REGISTRY", dir, "$DIR", conf.Version(), "VERSION")
	return w
}

// bind lets groups be there before the first message.
func (w *walk) bind(t *testing.T, bindings ...kite.Binding) {
	t.Helper()
	r, stop, err := openZooKeeper(t.Context(), w.registry)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, b := range bindings {
		if err := r.Bind(t.Context(), []kite.Binding{b}); err != nil {
			t.Fatal(err)
		}
	}
}

// freePair returns an address on whose port, and on the one above, nobody listens.
func freePair(t *testing.T) string {
	t.Helper()
	for range 20 {
		one, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := one.Addr().(*net.TCPAddr).Port
		other, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		_ = one.Close()
		if err == nil {
			_ = other.Close()
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
	}
	t.Fatal("no two free ports")
	return ""
}

// step is a command line of the script.
type step struct {
	line  string
	in    string // lines after <
	until string // after ~: it is repeated until this is printed
}

// play runs the script's commands and returns it with what they print now. A line begins with $ and a command, < and
// a line of its input, or ~ and what to wait for; two spaces stand before output, and after them ! before errors.
func (w *walk) play(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(script, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "  ") {
			continue
		}
		out.WriteString(lines[i] + "\n")
		command, ok := strings.CutPrefix(lines[i], "$ kiteqctl ")
		if !ok {
			continue
		}
		s := step{line: command}
		for ; i+1 < len(lines) && len(lines[i+1]) > 1 && strings.ContainsAny(lines[i+1][:1], "<~"); i++ {
			out.WriteString(lines[i+1] + "\n")
			if rest := lines[i+1][2:]; lines[i+1][0] == '<' {
				s.in += rest + "\n"
			} else {
				s.until = rest
			}
		}
		out.WriteString(w.step(t, s))
	}
	return out.String()
}

// step runs one command and returns its normal output.
func (w *walk) step(t *testing.T, s step) string {
	t.Helper()
	args := words(w.replacer.Replace(s.line))
	deadline, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		var out, failures bytes.Buffer
		code := run(t.Context(), append([]string{"--zkhost", w.registry, "--timeout", "5s"}, args...), terminal{
			in: strings.NewReader(s.in), out: &out, err: &failures, user: "ann", registry: openZooKeeper, program: w.program,
		})
		if s.until != "" && !strings.Contains(out.String()+failures.String(), s.until) {
			if wait(deadline, 20*time.Millisecond); deadline.Err() == nil {
				continue
			}
			t.Errorf("%s: never printed %q", s.line, s.until)
		}
		w.note(args, code)
		text := w.indented(out.String(), "  ") + w.indented(failures.String(), "  ! ")
		if code != exitOK {
			text += fmt.Sprintf("  = exit code %d\n", code)
		}
		return text
	}
}

// program finds the script that stands for kiteq-bench.
func (w *walk) program(name string) (string, error) {
	path := w.replacer.Replace("$DIR/bench")
	if name != benchProgram {
		return "", fmt.Errorf("%s is asked for", name)
	}
	return path, nil
}

func (w *walk) note(args []string, code int) {
	root := newRoot(terminal{})
	root.InitDefaultCompletionCmd()
	cmd, _, err := root.Find(args)
	if err != nil {
		return
	}
	name := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "kiteqctl"), " ")
	if code == exitOK {
		w.done[name] = true
	} else {
		w.failed[name] = true
	}
}

// What differs from run to run.
var normals = []struct { //nolint:gochecknoglobals // never written
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`("\w+_(ms|s)":)-?[\d.]+`), "${1}N"},
	{regexp.MustCompile(`("seconds":)[\d.e-]+`), "${1}N"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s)\b`), "TIME"},
	{regexp.MustCompile(`\d+ a second`), "N a second"},
	{regexp.MustCompile(`\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}`), "HASH"},
	{regexp.MustCompile(`127\.0\.0\.1:\d{5}`), "$$MEMBER"},
	{regexp.MustCompile(` {2,}`), "  "},
	{regexp.MustCompile(` +\n`), "\n"},
}

// mostLines are printed of one answer.
const mostLines = 8

func (w *walk) indented(text, indent string) string {
	text = w.normal.Replace(text)
	for _, n := range normals {
		text = n.pattern.ReplaceAllString(text, n.text)
	}
	var out strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > mostLines {
			return out.String() + indent + "...\n"
		}
		out.WriteString(indent + strings.TrimRight(line, "\n") + "\n")
	}
	return out.String()
}

// words parts a command line at spaces that are not in single quotes.
func words(line string) (all []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}
