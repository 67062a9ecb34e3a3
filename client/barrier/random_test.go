package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/barrier"
	"github.com/kiteq/kiteq/client/internal/dbtest"
)

// histories is how many TestHistories plays on each database.
const histories = 1000

// history is one message's life, as the dice have it. Everything in it goes on at once.
type history struct {
	before   bool    // a check comes before the transaction
	at       []point // when checks come
	end      int     // what fn does, see endings
	loss     dbtest.Loss
	stay     bool // with the loss, the database is gone for the producer
	rival    bool // another process does the same under the same id
	rivalEnd error
	repeat   bool // the producer does it again after Indeterminate
}

// point is when a check comes.
type point int

const (
	atStart point = iota // together with InTx
	inFn                 // when fn has started
	atEnd                // when fn returns
	points
)

// What fn does.
const (
	succeeds = iota
	fails
	panics
	isCancelled // its context ends
	dies        // the process dies: the database is gone, and no verdict is sent
	endings
)

func roll(dice *rand.Rand) history {
	h := history{before: dice.IntN(8) == 0, stay: dice.IntN(2) == 0, repeat: dice.IntN(2) == 0, rival: dice.IntN(6) == 0}
	for range dice.IntN(4) {
		h.at = append(h.at, point(dice.IntN(int(points))))
	}
	if dice.IntN(2) == 0 {
		h.end = dice.IntN(endings)
	}
	if dice.IntN(2) == 0 {
		h.loss = []dbtest.Loss{dbtest.Before, dbtest.After}[dice.IntN(2)]
	}
	if dice.IntN(2) == 0 {
		h.rivalEnd = errDeclined
	}
	return h
}

// TestHistories plays random histories. In the end the row is there if, and only if, every verdict and
// every answer that was not Unknown says commit; and what InTx returned is true.
func TestHistories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		players := 4
		if d.Dialect == barrier.SQLite {
			players = 1 // one writes at a time anyway, and who waits looks again after a pause only
		}
		for p := range players {
			s := open(t, d)
			dice := rand.New(rand.NewPCG(seed, uint64(p)))
			t.Run(fmt.Sprint("player ", p), func(t *testing.T) {
				t.Parallel()
				s.play(t, dice, histories/players)
			})
		}
	})
}

// played is what came of a history.
type played struct {
	history
	id      string
	err     error // of InTx
	answers []client.Verdict
	final   client.Verdict
}

func (s *shop) play(t *testing.T, dice *rand.Rand, n int) {
	rival := s.dial(s.other.Check)
	all := make([]played, n)
	counts := map[client.Verdict]int{}
	for i := range all {
		p := played{history: roll(dice), id: client.NewID()}
		s.live(&p, rival)
		p.final = s.check(p.id)
		counts[p.final]++
		if rows := s.rows(p.id); p.final == client.Unknown || (rows == 1) != (p.final == client.Commit) {
			t.Errorf("%+v: %d rows", p, rows)
		}
		for _, v := range p.answers {
			if v != client.Unknown && v != p.final {
				t.Errorf("%+v: checks disagree", p)
			}
		}
		if p.err == nil && p.final != client.Commit || p.err != nil && !errors.Is(p.err, client.Indeterminate) && !p.rival && p.final != client.Rollback {
			t.Errorf("%+v: InTx is wrong", p)
		}
		all[i] = p
	}
	sent := s.verdicts(s.client, rival)
	verdicts := 0
	for _, p := range all {
		for _, v := range sent[p.id] {
			verdicts++
			if v != p.final {
				t.Errorf("%+v: verdict %s was sent", p, v)
			}
		}
	}
	t.Logf("%d commits, %d rollbacks, %d verdicts sent", counts[client.Commit], counts[client.Rollback], verdicts)
	if counts[client.Commit] < n/10 || counts[client.Rollback] < n/10 || verdicts < n/2 {
		t.Error("the dice are loaded: the histories do not try enough")
	}
}

// live plays the history to its end.
func (s *shop) live(p *played, rival *client.Client) {
	var others sync.WaitGroup
	var mu sync.Mutex
	gates := [points]chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	var opened [points]sync.Once
	openGate := func(at point) { opened[at].Do(func() { close(gates[at]) }) }
	if p.before {
		p.answers = append(p.answers, s.check(p.id))
	}
	for _, at := range p.at {
		others.Go(func() {
			<-gates[at]
			v := s.check(p.id)
			mu.Lock()
			defer mu.Unlock()
			p.answers = append(p.answers, v)
		})
	}
	if p.rival {
		others.Go(func() {
			<-gates[atStart]
			_ = s.orderBy(s.t.Context(), s.other, rival, p.id, func(*sql.Tx) error { return p.rivalEnd })
		})
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	openGate(atStart)
	p.err = s.produce(ctx, p, func() error {
		openGate(inFn)
		defer openGate(atEnd)
		s.breaker.Lose(p.loss, p.stay)
		switch p.end {
		case fails:
			return errDeclined
		case panics:
			panic("boom")
		case isCancelled:
			cancel()
		case dies:
			s.breaker.Away(true)
			panic("killed")
		}
		return nil
	})
	for at := range points { // fn may not have run
		openGate(at)
	}
	s.breaker.Lose(dbtest.None, false)
	s.breaker.Away(false)
	if p.repeat && errors.Is(p.err, client.Indeterminate) {
		p.err = s.order(s.t.Context(), p.id, done)
	}
	others.Wait()
}

// produce is InTx with a panic as an outcome that nobody knows.
func (s *shop) produce(ctx context.Context, p *played, fn func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = client.Indeterminate
		}
	}()
	return s.order(ctx, p.id, func(*sql.Tx) error { return fn() })
}
