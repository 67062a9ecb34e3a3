package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/kiteq/kiteq/internal/kite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap returns a hash at the lowest cost: tests need many.
func cheap(t testing.TB, key string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(key), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

const here = "10.0.0.1:4711"

// gate returns a running gate and how often it looked at a key.
func gate(t testing.TB, r Rules) (*Gate, *atomic.Int64) {
	t.Helper()
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	g, looks := New(r, slog.New(slog.DiscardHandler)), new(atomic.Int64)
	g.match = func(hash, key []byte) error {
		looks.Add(1)
		return bcrypt.CompareHashAndPassword(hash, key)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return g, looks
}

// admit waits for the answer.
func admit(g *Gate, group, key, remote string) error {
	answer := make(chan error, 1)
	now, err := g.Admit(group, key, remote, func(err error) { answer <- err })
	if now {
		return err
	}
	return <-answer
}

// TestAdmit lets in who has a key of the group, and nobody else. All refusals read alike.
func TestAdmit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", MaxKey)
	g, _ := gate(t, Rules{Groups: map[string]Group{
		"p-till":  {Keys: []string{cheap(t, "old"), cheap(t, "new")}, Publish: []string{"trade"}},
		"s-open":  {Open: true, Subscribe: []string{"*"}},
		"s-long":  {Keys: []string{cheap(t, long)}},
		"s-other": {Keys: []string{cheap(t, "other")}},
	}})
	texts := map[string]bool{}
	for i, test := range []struct {
		group, key string
		in         bool
	}{
		{"p-till", "old", true},
		{"p-till", "new", true},
		{"p-till", "new", true}, // remembered
		{"p-till", "other", false},
		{"p-till", "", false},
		{"s-other", "old", false},
		{"s-nobody", "old", false},
		{"s-nobody", "", false},
		{"", "", false},
		{"s-open", "", true},
		{"s-open", "anything", true},
		{"s-long", long, true},
		{"s-long", long + "x", false},
	} {
		err := admit(g, test.group, test.key, fmt.Sprintf("10.0.0.%d:1", i))
		if (err == nil) != test.in {
			t.Errorf("%q with %q: %v", test.group, test.key, err)
		}
		if err != nil {
			texts[err.Error()] = true
			if kite.CodeOf(err) != kite.Unauthorized || strings.Contains(err.Error(), test.key) && test.key != "" {
				t.Errorf("%q with %q: %v", test.group, test.key, err)
			}
		}
	}
	if len(texts) != 1 {
		t.Errorf("who is refused learns why: %v", texts)
	}
}

// TestUnknownNameCostsALook looks at a key for a name that there is not, too: the time does not tell.
func TestUnknownNameCostsALook(t *testing.T) {
	t.Parallel()
	g, looks := gate(t, Rules{Groups: map[string]Group{"s-a": {Keys: []string{cheap(t, "key")}}}})
	for _, group := range []string{"s-a", "s-nobody"} {
		before := looks.Load()
		if err := admit(g, group, "wrong", here); err == nil || looks.Load() != before+1 {
			t.Errorf("%s: %v, %d looks", group, err, looks.Load()-before)
		}
	}
}

// TestStorm lets a thousand members come at once, again and again: one look is enough.
func TestStorm(t *testing.T) {
	t.Parallel()
	g, looks := gate(t, Rules{Groups: map[string]Group{"s-a": {Keys: []string{cheap(t, "key")}}}})
	for range 2 {
		answers := make(chan error, 1000)
		for range cap(answers) {
			if now, err := g.Admit("s-a", "key", here, func(err error) { answers <- err }); now {
				answers <- err
			}
		}
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := looks.Load(); n > 8 { // one for each worker that had begun
		t.Errorf("%d looks for one key", n)
	}
}

// TestBackOff lets an address wait that tries keys, twice as long each time, and nobody else; who is remembered
// comes in from there, too.
func TestBackOff(t *testing.T) {
	t.Parallel()
	hash := cheap(t, "key")
	synctest.Test(t, func(t *testing.T) {
		g, looks := gate(t, Rules{Groups: map[string]Group{"s-a": {Keys: []string{hash}}, "s-b": {Keys: []string{hash}}, "s-c": {Keys: []string{cheap(t, "c")}}}})
		if err := admit(g, "s-a", "key", here); err != nil {
			t.Fatal(err)
		}
		for range freeFailures {
			if err := admit(g, "s-a", "wrong", here); !errors.Is(err, kite.Unauthorized) {
				t.Fatal(err)
			}
		}
		before := looks.Load()
		if err := admit(g, "s-c", "c", here); err == nil || !strings.Contains(err.Error(), "too many wrong keys") {
			t.Errorf("the right key after %d wrong ones: %v", freeFailures, err)
		}
		if err := admit(g, "s-a", "key", here); err != nil {
			t.Errorf("it was right before: %v", err)
		}
		if looks.Load() != before {
			t.Error("a key was looked at while the address has to wait")
		}
		if err := admit(g, "s-c", "c", "10.0.0.2:1"); err != nil {
			t.Errorf("another address: %v", err)
		}
		for pause := firstPause; pause < longestPause; pause *= 2 {
			time.Sleep(pause - time.Millisecond)
			if err := admit(g, "s-a", "wrong", here); err == nil || !strings.Contains(err.Error(), "too many wrong keys") {
				t.Fatalf("before %v have gone by: %v", pause, err)
			}
			time.Sleep(time.Millisecond)
			if err := admit(g, "s-a", "wrong", here); err == nil || strings.Contains(err.Error(), "too many wrong keys") {
				t.Fatalf("after %v: %v", pause, err)
			}
		}
		time.Sleep(forgetAfter + longestPause)
		for range freeFailures {
			if err := admit(g, "s-a", "wrong", here); err == nil || strings.Contains(err.Error(), "too many wrong keys") {
				t.Fatalf("after a long time: %v", err)
			}
		}
	})
}

// TestFailuresAreBounded remembers so many addresses and no more.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	f, now := failures{}, time.Unix(1_700_000_000, 0)
	for n := range 3 * maxRemembered {
		f.add(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), now.Add(time.Duration(n)*time.Millisecond))
	}
	if len(f) > maxRemembered {
		t.Errorf("%d addresses, want at most %d", len(f), maxRemembered)
	}
}

// TestQueueIsBounded answers busy when nobody can look, and blocks nobody.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	g := New(Rules{Groups: map[string]Group{"s-a": {Keys: []string{cheap(t, "key")}}}}, slog.New(slog.DiscardHandler)) // it does not run
	for range queueLength {
		if now, err := g.Admit("s-a", "key", here, func(error) {}); now {
			t.Fatal(err)
		}
	}
	if now, err := g.Admit("s-a", "key", here, nil); !now || !errors.Is(err, kite.Busy) {
		t.Errorf("%v %v", now, err)
	}
	if s := g.Stats(); s.Queue != queueLength || s.Busy != 1 {
		t.Errorf("%+v", s)
	}
}

// TestRights matches topics by pattern; a group without an entry has those of "*", or none.
func TestRights(t *testing.T) {
	t.Parallel()
	key := []string{cheap(t, "key")}
	g := New(Rules{Groups: map[string]Group{
		"p-till": {Keys: key, Publish: []string{"trade", "fee-*"}},
		"s-till": {Keys: key, Subscribe: []string{"*"}},
		Others:   {Open: true, Subscribe: []string{"news"}},
	}}, slog.New(slog.DiscardHandler))
	for _, test := range []struct {
		group, topic       string
		publish, subscribe bool
	}{
		{"p-till", "trade", true, false},
		{"p-till", "trades", false, false},
		{"p-till", "fee-eu", true, false},
		{"s-till", "trade", false, true},
		{"nobody", "trade", false, false},
		{"nobody", "news", false, true},
		{"p-till", "news", false, false}, // its own entry counts alone
	} {
		if p, s := g.MayPublish(test.group, test.topic), g.MaySubscribe(test.group, test.topic); p != test.publish || s != test.subscribe {
			t.Errorf("%+v: publish %v, subscribe %v", test, p, s)
		}
	}
	if !g.MayDecide("p-till") || g.MayDecide("s-till") || g.MayDecide("nobody") {
		t.Error("a transaction is decided by who publishes")
	}
}

// TestSwap puts other rules in force: a key that is gone is not remembered, and its group is told.
func TestSwap(t *testing.T) {
	t.Parallel()
	one, two := cheap(t, "one"), cheap(t, "two")
	g, _ := gate(t, Rules{Groups: map[string]Group{
		"s-stays": {Keys: []string{one}}, "s-changes": {Keys: []string{one, two}}, "s-goes": {Keys: []string{one}}, "s-closes": {Open: true},
	}})
	for _, group := range []string{"s-stays", "s-changes", "s-goes"} {
		if err := admit(g, group, "one", here); err != nil {
			t.Fatal(err)
		}
	}
	three := cheap(t, "three")
	revoked := g.Swap(Rules{Groups: map[string]Group{
		"s-stays": {Keys: []string{one, three}}, "s-changes": {Keys: []string{two}}, "s-closes": {Keys: []string{two}},
	}})
	if want := "[s-changes s-closes s-goes]"; fmt.Sprint(revoked) != want {
		t.Errorf("revoked %v, want %s", revoked, want)
	}
	for _, test := range []struct {
		group, key string
		in         bool
	}{{"s-stays", "one", true}, {"s-stays", "three", true}, {"s-changes", "one", false}, {"s-changes", "two", true}, {"s-goes", "one", false}, {"s-closes", "", false}} {
		if err := admit(g, test.group, test.key, here); (err == nil) != test.in {
			t.Errorf("%s with %s: %v", test.group, test.key, err)
		}
	}
	if revoked := g.Swap(Rules{}); len(revoked) != 3 {
		t.Errorf("revoked %v", revoked)
	}
}

// TestOperator knows operators by token or certificate.
func TestOperator(t *testing.T) {
	t.Parallel()
	g, _ := gate(t, Rules{Operators: map[string]Operator{
		"alice": {Keys: []string{cheap(t, "token")}, Role: Operate},
		"board": {Keys: []string{cheap(t, "other")}, Role: ReadOnly, Certificate: true},
		"robot": {Certificate: true, Role: Operate},
	}})
	for _, test := range []struct {
		name, token string
		role        Role
	}{{"alice", "token", Operate}, {"board", "other", ReadOnly}, {"alice", "other", ""}, {"robot", "", ""}, {"eve", "token", ""}} {
		role, err := g.Operator(t.Context(), test.name, test.token, here)
		if role != test.role || (err == nil) != (test.role != "") {
			t.Errorf("%s: %q %v", test.name, role, err)
		}
	}
	for name, want := range map[string]Role{"alice": "", "board": ReadOnly, "robot": Operate, "eve": ""} {
		if role, err := g.Certified(name); role != want || (err == nil) != (want != "") {
			t.Errorf("certificate of %s: %q %v", name, role, err)
		}
	}
	if !g.HasOperators() || New(Rules{}, slog.New(slog.DiscardHandler)).HasOperators() {
		t.Error("who the port asks")
	}
}

// TestRules names every mistake, and shows no hash.
func TestRules(t *testing.T) {
	t.Parallel()
	hash := cheap(t, "key")
	dear := "$2a$15" + hash[6:]
	err := Rules{
		Groups: map[string]Group{
			"a/b": {Open: true}, "none": {}, "both": {Open: true, Keys: []string{hash}}, "plain": {Keys: []string{"my secret"}},
			"dear": {Keys: []string{dear}}, "pattern": {Open: true, Publish: []string{"a[", ""}},
		},
		Operators: map[string]Operator{"x": {Role: Operate}, "y": {Keys: []string{hash}, Role: "boss"}},
	}.Validate()
	if kite.CodeOf(err) != kite.Invalid {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{`a/b`, `"none": give keys`, `"both": give keys`, `"plain": key 1 is no bcrypt hash`, `"dear": key 1 has cost 15`, `"a["`, `""`, `"x": give keys`, `role "boss"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in:\n%v", want, err)
		}
	}
	for _, secret := range []string{"my secret", hash, dear} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows %q", secret)
		}
	}
	if _, err := Hash(""); err == nil {
		t.Error("an empty key was hashed")
	}
	made, err := Hash("key")
	if err != nil || bcrypt.CompareHashAndPassword([]byte(made), []byte("key")) != nil {
		t.Errorf("%v", err)
	}
}

// BenchmarkAdmit is what a member costs that comes again.
func BenchmarkAdmit(b *testing.B) {
	g, _ := gate(b, Rules{Groups: map[string]Group{"s-a": {Keys: []string{cheap(b, "key")}}}})
	if err := admit(g, "s-a", "key", here); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if now, err := g.Admit("s-a", "key", here, nil); !now || err != nil {
			b.Fatal(err)
		}
	}
}
