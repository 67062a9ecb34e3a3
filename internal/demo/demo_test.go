package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
)

// TestDemo builds the broker and the demo and plays it, as ./build.sh demo does.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, pack := range map[string]string{"kiteq": "github.com/kiteq/kiteq", "demo": "."} {
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), pack).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pack, err, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "demo"), "-kiteq", filepath.Join(dir, "kiteq")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range []string{
		"4 of 4: Ann, Eva, Gus, Hal", "5 of 5: Ann, Cid, Eva, Gus, Hal", "6 of 6: Ann, Cid, Dora, Eva, Gus, Hal",
		"row true, answers commit", "row false, answers rollback",
		"the barrier answers commit, after ", "the barrier answers rollback, after ", "again and is refused", "the same 5 payments",
		"kiteqctl explain", "prepared by group p-till", "committed as seq", "rolled back by 127.0.0.1:",
	} {
		if !strings.Contains(string(out), line) {
			t.Errorf("it does not say %q:\n%s", line, out)
		}
	}
}

// TestCompare has parties that were told too little, too much and something else.
func TestCompare(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		told, want []string
		problem    string
	}{
		"the same":   {[]string{"1", "2"}, []string{"1", "2"}, ""},
		"a repeat":   {[]string{"1", "2", "1"}, []string{"1", "2"}, ""},
		"too little": {[]string{"1"}, []string{"1", "2"}, `x was not told "paid body 2"`},
		"too much":   {[]string{"1", "2"}, []string{"1"}, `x was told "paid body 2"`},
		"another":    {[]string{"2"}, []string{"1"}, `x was not told "paid body 1"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := &party{name: "x"}
			s := newStage(x)
			for _, id := range test.told {
				if err := s.told(x)(t.Context(), &client.Delivery{ID: id, Type: "paid", Body: []byte("body " + id)}); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range test.want {
				x.want[id] = "paid body " + id
			}
			switch err := s.compare(); {
			case test.problem == "" && err != nil:
				t.Error(err)
			case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
				t.Errorf("%v, want %s", err, test.problem)
			}
		})
	}
}

// TestExpect waits for what comes, and names what does not.
func TestExpect(t *testing.T) {
	t.Parallel()
	x, y := &party{name: "x"}, &party{name: "y"}
	s := newStage(x, y)
	waited := make(chan error)
	go func() { waited <- s.expect(t.Context(), "1", "paid", "body", "x") }()
	if err := s.told(x)(t.Context(), &client.Delivery{ID: "1", Type: "paid", Body: []byte("body")}); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.expect(ctx, "2", "paid", "body", "x", "y"); err == nil || !strings.Contains(err.Error(), `was not told "paid body"`) {
		t.Errorf("%v, want what is missing", err)
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	l := ledger{dir: t.TempDir()}
	if paid, err := l.has("1"); paid || err != nil {
		t.Errorf("an empty ledger has the row: %t %v", paid, err)
	}
	if err := l.insert("1", "Ann"); err != nil {
		t.Fatal(err)
	}
	if paid, err := l.has("1"); !paid || err != nil {
		t.Errorf("the row is not there: %t %v", paid, err)
	}
	rows, err := l.rows()
	if err != nil || len(rows) != 1 || rows["1"] != "Ann" {
		t.Errorf("rows %v %v", rows, err)
	}
	gone := ledger{dir: filepath.Join(l.dir, "1")}
	if _, err := gone.has("2"); err == nil {
		t.Error("a ledger that cannot be read says that the row is not there: that is a rollback")
	}
}
