package kite

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestSettledAgainstSet compares Settled with the plainest set there is, over random histories.
func TestSettledAgainstSet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var settled Settled
		model := map[Seq]bool{}
		for range 200 {
			from := Seq(1 + random.IntN(100))
			r := Range{from, from + Seq(random.IntN(5))}
			settled.Settle(r)
			for seq := r.From; seq < r.To; seq++ {
				model[seq] = true
			}
			floor := Seq(1)
			for model[floor] {
				floor++
			}
			if settled.Floor() != floor {
				t.Fatalf("seed %d: floor %d, want %d", seed, settled.Floor(), floor)
			}
			for seq := Seq(1); seq < 110; seq++ {
				if settled.Contains(seq) != model[seq] {
					t.Fatalf("seed %d: Contains(%d) = %v", seed, seq, settled.Contains(seq))
				}
			}
			last := settled.Floor()
			for _, r := range settled.Ranges() {
				if r.From <= last || r.To <= r.From {
					t.Fatalf("seed %d: ranges %v above %d touch or are empty", seed, settled.Ranges(), settled.Floor())
				}
				last = r.To
			}
		}
	}
}

func TestProgressRoundTrip(t *testing.T) {
	t.Parallel()
	p := Progress{Floor: 7, Settled: []Range{{9, 12}, {20, 21}}, Retries: []Retry{{8, 3, 1234567890123}, {15, 100, 1}}}
	body := AppendProgress(nil, &p)
	var s Standing
	for range 2 { // twice changes nothing
		if err := s.Apply(body); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, s.Progress()); diff != "" {
			t.Fatal(diff)
		}
	}
	if err := s.Apply(AppendProgress(nil, &Progress{Floor: 9})); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Retries[8]; ok || s.Floor() != 12 {
		t.Errorf("retry 8 is still there or floor %d is not 12", s.Floor())
	}
	for n := range body {
		var s Standing
		if err := s.Apply(body[:n]); err == nil {
			t.Errorf("%d of %d bytes were accepted", n, len(body))
		}
	}
}

func TestDeadLetterRoundTrip(t *testing.T) {
	t.Parallel()
	l := DeadLetter{Seq: 300, Attempts: 100, Command: 0x11, Reason: "deliver limit 100 reached", Payload: []byte("body")}
	got, err := DecodeDeadLetter(AppendDeadLetter(nil, &l))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzProgress(f *testing.F) {
	f.Add(AppendProgress(nil, &Progress{Floor: 3, Settled: []Range{{5, 6}}, Retries: []Retry{{4, 1, 99}}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		var s Standing
		if s.Apply(body) != nil {
			return
		}
		p := s.Progress()
		var again Standing
		if err := again.Apply(AppendProgress(nil, &p)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again.Progress(), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDeadLetter(f *testing.F) {
	f.Add(AppendDeadLetter(nil, &DeadLetter{Seq: 1, Reason: "expired", Payload: []byte("x")}))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := DecodeDeadLetter(body)
		if err != nil {
			return
		}
		again, err := DecodeDeadLetter(AppendDeadLetter(nil, &l))
		if diff := cmp.Diff(l, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	})
}

func TestStandingRoundTrip(t *testing.T) {
	t.Parallel()
	s := &Standing{Retries: map[Seq]Retry{12: {12, 3, 99}}, Paused: true, Turn: 4}
	s.Raise(10)
	s.Settle(Range{14, 16})
	for _, letter := range []Seq{1, 2, 5} {
		s.Discard(letter)
	}
	for _, letter := range []Seq{9, 7, 9, 5} { // twice, and one that is done with: neither counts
		s.Requeue(letter)
	}
	got, err := DecodeStanding(AppendStanding(nil, s))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got, cmp.AllowUnexported(Settled{})); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]Seq{7, 9}, got.Requeued); diff != "" {
		t.Error(diff)
	}
	got.Discard(7)
	if len(got.Requeued) != 1 || !got.Letters.Contains(7) || got.Letters.Contains(9) {
		t.Errorf("requeued %v, letters %+v after letter 7 was discarded", got.Requeued, got.Letters)
	}
	got.Seek(3)
	if got.Floor() != 3 || got.Contains(14) || len(got.Retries) != 0 || got.Turn != 5 || !got.Paused {
		t.Errorf("after a seek: %+v", got)
	}
	body := AppendStanding(nil, s)
	for n := range body {
		if _, err := DecodeStanding(body[:n]); err == nil {
			t.Errorf("cut at %d of %d: no error", n, len(body))
		}
	}
}

func TestOrderRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []Order{
		{Action: ActionRefuse, Outcome: OutcomeRolledBack, Note: Note{By: "10.0.0.1:9", Reason: "late"}},
		{Action: ActionSeek, Note: Note{By: "operator ann"}},
	} {
		if got, err := DecodeOrder(AppendOrder(nil, &want)); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	for _, bad := range [][]byte{nil, {1}, {0, 0, 'a', 0}} {
		if o, err := DecodeOrder(bad); err == nil {
			t.Errorf("%v is the order %+v", bad, o)
		}
	}
	if n := DecodeNote([]byte("by only")); n.By != "by only" || n.Reason != "" {
		t.Errorf("%+v", n)
	}
}
