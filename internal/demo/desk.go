package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // the desk's database

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/barrier"
)

// The desks are producers, too. They share a database, and its barrier answers for all of them.
const deskGroup = "p-desk"

// desk is one process at a counter of the shop: payments in SQLite, messages by the barrier.
type desk struct {
	db      *sql.DB
	barrier *barrier.Barrier
	client  *client.Client
}

// openDesk opens the desk's database file and connects it. check answers the broker, in place of the barrier.
func openDesk(ctx context.Context, zkhost, file string, check func(*barrier.Barrier) client.CheckFunc) (_ *desk, err error) {
	d := &desk{}
	defer func() {
		if err != nil {
			d.close(ctx)
		}
	}()
	if d.db, err = sql.Open("sqlite3", "file:"+file+"?_journal_mode=WAL&_busy_timeout=10000"); err != nil {
		return nil, err
	}
	if d.barrier, err = barrier.New(d.db, barrier.SQLite, barrier.Options{}); err != nil {
		return nil, err
	}
	if err = d.barrier.Create(ctx); err != nil {
		return nil, err
	}
	if _, err = d.db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS payments (id TEXT PRIMARY KEY, what TEXT NOT NULL)"); err != nil {
		return nil, err
	}
	d.client, err = client.Dial(ctx, client.Options{
		ZKHost: zkhost, Group: deskGroup, Topics: []string{topic}, CheckListener: check(d.barrier),
	})
	return d, err
}

// withoutSQLite tells whether the program was built without a C compiler, and so without SQLite.
func withoutSQLite(err error) bool { return strings.Contains(err.Error(), "CGO_ENABLED=0") }

// pay is the payment and its message. meanwhile runs between the statement and the COMMIT.
func (d *desk) pay(ctx context.Context, id, what string, meanwhile func() error) error {
	m := &client.Message{ID: id, Topic: topic, Type: vipPaid, Body: []byte(what), Text: true}
	return d.barrier.InTx(ctx, d.client, m, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO payments VALUES (?, ?)", id, what); err != nil {
			return err
		}
		return meanwhile()
	})
}

// payments returns every payment by its id.
func (d *desk) payments(ctx context.Context) (map[string]string, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT id, what FROM payments")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]string{}
	for rows.Next() {
		var id, what string
		if err := rows.Scan(&id, &what); err != nil {
			return nil, err
		}
		all[id] = what
	}
	return all, rows.Err()
}

func (d *desk) close(ctx context.Context) {
	if d.client != nil {
		_ = d.client.Close(ctx) // the play is over, or did not begin
	}
	if d.db != nil {
		_ = d.db.Close()
	}
}

// desks opens the desk that answers checks. Without SQLite its scenes are left out.
func (p *play) desks(ctx context.Context) (err error) {
	p.scene("The shop has a desk, too: its payments are in SQLite, with a barrier (client/barrier)")
	p.desk, err = openDesk(ctx, p.broker.zkhost, p.counter, p.answers)
	switch {
	case err != nil && withoutSQLite(err):
		p.say("desk", "left out: this demo was built without a C compiler, so without SQLite")
		return nil
	case err != nil:
		return err
	}
	if err := p.slowDesk(ctx); err != nil {
		return err
	}
	if err := p.deskDies(ctx); err != nil {
		return err
	}
	p.paid, err = p.desk.payments(ctx)
	return err
}

// answers shows how long the barrier's answer takes.
func (p *play) answers(b *barrier.Barrier) client.CheckFunc {
	return func(ctx context.Context, c client.Check) client.Verdict {
		p.say("desk", "is asked about %.8s, asks the barrier", c.ID)
		p.note(p.asked, c.ID)
		begin := time.Now()
		verdict := b.Check(ctx, c)
		p.say("desk", "the barrier answers %s, after %d ms: that is final", verdict, time.Since(begin).Milliseconds())
		p.note(p.decided, c.ID)
		return verdict
	}
}

// stalls is for how long the slow transaction goes on after the broker has asked.
const stalls = 500 * time.Millisecond

// slowDesk has a check come while the transaction still runs.
func (p *play) slowDesk(ctx context.Context) error {
	p.scene("Hal pays at another desk, whose transaction is so slow that the broker asks while it runs")
	slow, err := openDesk(ctx, p.broker.zkhost, p.counter, func(b *barrier.Barrier) client.CheckFunc { return b.Check })
	if err != nil {
		return err
	}
	defer slow.close(context.WithoutCancel(ctx))
	const what = "Hal, 12 months"
	id := client.NewID()
	err = slow.pay(ctx, id, what, func() error {
		p.say("slow desk", "%.8s is prepared, row and barrier are written, COMMIT is far away: %s", id, what)
		if err := p.await(ctx, p.asked, id); err != nil {
			return err
		}
		late := time.NewTimer(stalls)
		defer late.Stop()
		<-late.C
		p.say("slow desk", "commits")
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.expect(ctx, id, vipPaid, what, membership, statistics, audit); err != nil {
		return err
	}
	return p.await(ctx, p.decided, id)
}

// deskDies kills a desk within its transaction, and lets another try the same payment when that is decided.
func (p *play) deskDies(ctx context.Context) error {
	p.scene("Ivy pays at a desk that is killed within its transaction; another desk tries it again, too late")
	const what = "Ivy, 12 months"
	id := client.NewID()
	doomed := doomed{zkhost: p.broker.zkhost, desk: p.counter, id: id, what: what}
	if err := doomed.start(ctx); err != nil {
		return err
	}
	p.say("other desk", "%.8s is prepared, row and barrier are written, killed before COMMIT: %s", id, what)
	if err := p.await(ctx, p.decided, id); err != nil {
		return err
	}
	err := p.desk.pay(ctx, id, what, func() error { return errors.New("the payment was made after its rollback") })
	if !errors.Is(err, barrier.ErrRolledBack) && !errors.Is(err, client.TxConflict) {
		return fmt.Errorf("the payment should be refused, but: %w", err)
	}
	p.say("desk", "pays %.8s again and is refused: %v", id, err)
	return p.explain(ctx, id)
}

// dieAtDesk is the doomed process at a desk: it ends within the transaction.
func (d *doomed) dieAtDesk(ctx context.Context) error {
	desk, err := openDesk(ctx, d.zkhost, d.desk, func(b *barrier.Barrier) client.CheckFunc { return b.Check })
	if err != nil {
		return err
	}
	return desk.pay(ctx, d.id, d.what, func() error { return die(ctx) })
}
