package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/kiteq/kiteq/client"
)

// The tills are the producers; every one of them can look into the ledger.
const tillGroup = "p-till"

// The message types.
const (
	vipPaid    = "vip-paid"
	giftPaid   = "gift-paid"
	vipRefund  = "vip-refund"
	membership = "membership"
	statistics = "statistics"
	audit      = "audit"
)

// longestPayment is how long a till may be at a payment. A row that is not there later never will be.
const longestPayment = time.Second

var errDeclined = errors.New("the card was declined")

// play is the purchase, scene by scene.
type play struct {
	*stage
	broker  *broker
	ledger  ledger
	till    *client.Client
	asked   chan string       // ids that the desk is asked about
	decided chan string       // ids that a check has decided
	counter string            // the file of the desks' database
	desk    *desk             // nil without SQLite
	unpaid  string            // the payment whose till was killed before the row
	paid    map[string]string // at the desk, by id
}

func newPlay(b *broker, l ledger, counter string) *play {
	return &play{
		broker: b, ledger: l, counter: counter, asked: make(chan string, 16), decided: make(chan string, 16),
		stage: newStage(
			&party{name: membership, group: "s-membership", bindings: []client.Binding{client.Direct(topic, vipPaid)}},
			&party{name: statistics, group: "s-statistics", bindings: []client.Binding{client.Regx(topic, "-paid$")}},
			&party{name: audit, group: "s-audit", bindings: []client.Binding{client.Fanout(topic)}},
		),
	}
}

func (p *play) run(ctx context.Context) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	for _, scene := range []func(context.Context) error{
		p.commits, p.otherTypes, p.declined, p.diesAfterPaying, p.diesBeforePaying, p.desks, p.closes,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// open connects the services and the till that stays alive.
func (p *play) open(ctx context.Context) error {
	p.scene("A shop opens")
	for _, party := range p.parties {
		c, err := client.Dial(ctx, client.Options{ZKHost: p.broker.zkhost, Group: party.group})
		if err != nil {
			return err
		}
		party.client = c
		if _, err := c.Subscribe(ctx, party.bindings, p.told(party)); err != nil {
			return err
		}
		if err := c.Ready(ctx, topic); err != nil {
			return err
		}
		b := party.bindings[0]
		p.say(party.name, "group %s binds %s %q of topic %s", party.group, b.Type, b.MessageType, topic)
	}
	var err error
	p.till, err = client.Dial(ctx, client.Options{
		ZKHost: p.broker.zkhost, Group: tillGroup, Topics: []string{topic}, CheckListener: p.check,
	})
	if err == nil {
		p.say("till", "group %s is connected to the broker at %s", tillGroup, p.broker.addr)
	}
	return err
}

// check answers the broker's question about a payment of any till by looking into the ledger.
func (p *play) check(_ context.Context, c client.Check) client.Verdict {
	paid, err := p.ledger.has(c.ID)
	verdict := client.Unknown
	switch {
	case err != nil: // cannot tell: it asks again
	case paid:
		verdict = client.Commit
	case time.Since(c.Created) > longestPayment:
		verdict = client.Rollback
	}
	p.say("till", "is asked about %.8s, looks into the ledger: row %t, answers %s", c.ID, paid, verdict)
	if verdict != client.Unknown {
		p.note(p.decided, c.ID)
	}
	return verdict
}

// note puts the id into the channel.
func (p *play) note(ids chan string, id string) {
	select {
	case ids <- id:
	default: // more checks than payments: somebody asked twice
	}
}

// await waits until the id comes.
func (p *play) await(ctx context.Context, ids chan string, id string) error {
	for {
		select {
		case came := <-ids:
			if came == id {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("the broker did not ask about %s: %w", id, context.Cause(ctx))
		}
	}
}

// pay is the local transaction with its message.
func (p *play) pay(ctx context.Context, messageType, what string, charge func() error) (id string, err error) {
	id = client.NewID()
	m := &client.Message{ID: id, Topic: topic, Type: messageType, Body: []byte(what), Text: true}
	err = p.till.PublishTx(ctx, m, func(context.Context) error {
		p.say("till", "%.8s is prepared, charges: %s", id, what)
		if err := charge(); err != nil {
			p.say("till", "%v: writes no row, rolls back", err)
			return err
		}
		p.say("till", "writes the row, commits")
		return p.ledger.insert(id, what)
	})
	return id, err
}

func accepted() error { return nil }

func (p *play) commits(ctx context.Context) error {
	p.scene("Ann buys a membership")
	const what = "Ann, 12 months"
	id, err := p.pay(ctx, vipPaid, what, accepted)
	if err != nil {
		return err
	}
	return p.expect(ctx, id, vipPaid, what, membership, statistics, audit)
}

func (p *play) otherTypes(ctx context.Context) error {
	p.scene("Cid buys a gift card; Dora gets her money back (no transaction, just a message)")
	what := "Cid, 50 euros"
	id, err := p.pay(ctx, giftPaid, what, accepted)
	if err != nil {
		return err
	}
	if err := p.expect(ctx, id, giftPaid, what, statistics, audit); err != nil {
		return err
	}
	m := &client.Message{ID: client.NewID(), Topic: topic, Type: vipRefund, Body: []byte("Dora, 12 months"), Text: true}
	if err := p.till.Publish(ctx, m); err != nil {
		return err
	}
	p.say("till", "%.8s is published: %s", m.ID, m.Body)
	return p.expect(ctx, m.ID, vipRefund, string(m.Body), audit)
}

func (p *play) declined(ctx context.Context) error {
	p.scene("Ben buys a membership, and his card is declined: nobody may hear of it")
	_, err := p.pay(ctx, vipPaid, "Ben, 12 months", func() error { return errDeclined })
	if !errors.Is(err, errDeclined) {
		return fmt.Errorf("the payment should be declined, but: %w", err)
	}
	return nil
}

func (p *play) diesAfterPaying(ctx context.Context) error {
	p.scene("Eva buys a membership, and the till is killed after the row, before the verdict")
	what := "Eva, 12 months"
	id, err := p.die(ctx, what, true)
	if err != nil {
		return err
	}
	if err := p.expect(ctx, id, vipPaid, what, membership, statistics, audit); err != nil {
		return err
	}
	return p.explain(ctx, id)
}

func (p *play) diesBeforePaying(ctx context.Context) error {
	p.scene("Finn buys a membership, and the till is killed before the row: nobody may hear of it")
	var err error
	p.unpaid, err = p.die(ctx, "Finn, 12 months", false)
	return err
}

// die runs a till that dies, and waits until the broker has asked this one about the payment.
func (p *play) die(ctx context.Context, what string, pays bool) (id string, err error) {
	id = client.NewID()
	doomed := doomed{zkhost: p.broker.zkhost, ledger: p.ledger.dir, id: id, what: what, pays: pays}
	if err := doomed.start(ctx); err != nil {
		return "", err
	}
	p.say("other till", "%.8s is prepared, row written %t, killed: %s", id, pays, what)
	return id, p.await(ctx, p.decided, id)
}

// closes sells one more membership: when it has arrived, whatever was sent before it has.
func (p *play) closes(ctx context.Context) error {
	p.scene("Gus buys the last membership of the day")
	const what = "Gus, 12 months"
	id, err := p.pay(ctx, vipPaid, what, accepted)
	if err != nil {
		return err
	}
	if err := p.expect(ctx, id, vipPaid, what, membership, statistics, audit); err != nil {
		return err
	}
	p.scene("And what became of Finn's payment?")
	return p.explain(ctx, p.unpaid)
}

// closePatience is how long the clients may take to finish.
const closePatience = 10 * time.Second

func (p *play) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closePatience)
	defer cancel()
	clients := []*client.Client{p.till}
	for _, party := range p.parties {
		clients = append(clients, party.client)
	}
	for _, c := range clients {
		if c == nil { // the play ended before it was dialled
			continue
		}
		if err := c.Close(ctx); err != nil {
			p.say("demo", "%v", err)
		}
	}
	if p.desk != nil {
		p.desk.close(ctx)
	}
}

// verdict compares what everybody was told with the play, with the ledger and with the desk's payments.
func (p *play) verdict() error {
	if err := p.compare(); err != nil {
		return err
	}
	rows, err := p.ledger.rows()
	if err != nil {
		return err
	}
	maps.Copy(rows, p.paid)
	for _, party := range p.parties {
		if party.name != statistics { // it is told of every payment and of nothing else
			continue
		}
		for id, row := range rows {
			if _, ok := party.got[id]; !ok {
				return fmt.Errorf("%q is paid, and %s was not told", row, party.name)
			}
		}
		if len(party.got) != len(rows) {
			return fmt.Errorf("%s was told of %d payments, ledger and desk have %d", party.name, len(party.got), len(rows))
		}
	}
	fmt.Printf("Every party was told exactly what it should be, and ledger and desk have the same %d payments.\n", len(rows))
	return nil
}
