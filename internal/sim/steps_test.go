package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// draws are the random numbers of a step. Each step takes as many, whatever it finds: so the steps of a seed
// are the same even where the broker has done something else.
type draws struct{ a, b, c, d uint32 }

// chances are the steps and how often each is taken.
var chances = []struct { //nolint:gochecknoglobals // constant
	weight uint32
	step   func(*history, draws)
}{
	{18, (*history).publishStep},
	{10, (*history).prepareStep},
	{4, (*history).againStep},
	{10, (*history).decideStep},
	{4, (*history).lateStep},
	{3, (*history).contestStep},
	{7, (*history).replyStep},
	{24, (*history).ackStep},
	{8, (*history).nackStep},
	{9, (*history).joinStep},
	{4, (*history).leaveStep},
	{12, (*history).tickStep},
	{2, (*history).waitStep},
	{2, (*history).crashStep},
	{4, (*history).doomStep},
	{1, (*history).stopStep},
	{2, (*history).seekStep},
	{2, func(h *history, d draws) { h.pause(one(h.model.flows, d.a), true) }},
	{4, func(h *history, d draws) { h.pause(one(h.model.flows, d.a), false) }},
	{4, (*history).letterStep},
}

func (h *history) step() {
	all := uint32(0)
	for _, c := range chances {
		all += c.weight
	}
	n := h.random.Uint32N(all)
	d := draws{h.random.Uint32(), h.random.Uint32(), h.random.Uint32(), h.random.Uint32()}
	for _, c := range chances {
		if n < c.weight {
			c.step(h, d)
			break
		}
		n -= c.weight
	}
	h.settle()
}

// one picks from what there is, which must be something.
func one[T any](from []T, n uint32) T { return from[int(n)%len(from)] }

func (h *history) sorted(which func(*message) bool) []string {
	var names []string
	for name, msg := range h.model.messages {
		if which(msg) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return names
}

// connected returns the connections of groups that begin so, in order.
func (h *history) connected(prefix string) []string {
	names := slices.SortedFunc(maps.Keys(h.conns), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(h.conns[name].group, prefix) })
}

func (h *history) groups() []string {
	var groups []string
	for _, f := range h.model.flows {
		groups = append(groups, f.Group)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

func (h *history) join(group string, framing protocol.Framing) *conn {
	h.names++
	name := "c" + strconv.Itoa(h.names)
	h.say("%s of %s connects", name, group)
	h.connect(name, group, framing)
	h.drain()
	return h.conns[name]
}

func (h *history) leave(name string) {
	h.say("%s leaves", name)
	c := h.conns[name]
	gone := func(d *delivery) bool { return d.conn == c }
	h.out, h.questions = slices.DeleteFunc(h.out, gone), slices.DeleteFunc(h.questions, gone)
	h.drop(name)
}

// producer returns some connection of a producer.
func (h *history) producer(n uint32) *conn {
	if all := h.connected("p-"); len(all) > 0 {
		return h.conns[one(all, n)]
	}
	return h.join(fmt.Sprintf("p-%d", n%2), protocol.FramingG)
}

func (h *history) publishStep(d draws) { h.send("publish", h.compose(d), d) }
func (h *history) prepareStep(d draws) { h.send("prepare", h.compose(d), d) }

// compose makes up a message.
func (h *history) compose(d draws) *message {
	h.names++
	msg := &message{
		name: "m" + strconv.Itoa(h.names), topic: one([]string{"trade", "trade", "trade", "fee"}, d.a), kind: one([]string{"pay", "refund"}, d.a>>8),
		key: one([]string{"a", "a", "a", "b", "b", "c", ""}, d.a>>16), limit: one([]int{1, 2, 3, 5, 100}, d.b), may: absent,
	}
	msg.body = "body of " + msg.name
	if d.b>>8&7 == 0 {
		msg.dueMs = h.nowMs() + int64(d.b>>16%90_000)
	}
	if d.c>>8&7 == 0 {
		msg.expiresMs = (max(h.nowMs(), msg.dueMs)/1000 + 2 + int64(d.c>>16%60)) * 1000
	}
	h.model.messages[msg.name] = msg
	return msg
}

// againStep publishes or prepares what was before.
func (h *history) againStep(d draws) {
	if names := h.sorted(func(*message) bool { return true }); len(names) > 0 {
		h.send(one([]string{"publish", "prepare"}, d.b), h.model.messages[one(names, d.a)], d)
	}
}

func (h *history) send(what string, msg *message, d draws) {
	c := h.producer(d.d)
	if msg.group == "" || msg.may == absent {
		msg.group = c.group
	}
	h.say("%s %ss %s: topic %s, type %s, key %q, limit %d, due at %d, expires at %d", c.name, what, msg.name, msg.topic, msg.kind, msg.key, msg.limit, msg.dueMs, msg.expiresMs)
	header := protocol.Header{
		Topic: msg.topic, MessageType: msg.kind, MessageID: idOf(msg.name), GroupID: c.group, Commit: what == "publish",
		ExpiredTime: -1, DeliverLimit: int32(msg.limit), CreateTime: time.Now().Unix(), Properties: map[string]string{},
	}
	if msg.key != "" {
		header.Properties[kite.DefaultOrderKey] = msg.key
	}
	if msg.dueMs > 0 {
		header.Properties[kite.PropertyDeliverAt] = strconv.FormatInt(msg.dueMs, 10)
	}
	if msg.expiresMs > 0 {
		header.ExpiredTime = msg.expiresMs / 1000
	}
	h.asked, h.askedFor = msg, what
	if msg.expiresMs > 0 && msg.expiresMs <= h.nowMs() {
		h.askedFor = "refuse"
	}
	c.say(protocol.AppendMessage(nil, c.framing, c.next(), protocol.CmdBytesMessage, &header, []byte(msg.body)))
	h.done(h.askedFor, msg)
}

// done tells the model what was asked for, and whether the broker survived it.
func (h *history) done(what string, msg *message) {
	synctest.Wait()
	h.model.did(what, msg, !h.journal.dead.Load())
}

// decideStep decides a transaction that is open, lateStep whatever comes.
func (h *history) decideStep(d draws) {
	if names := h.sorted(func(msg *message) bool { return msg.may&open != 0 }); len(names) > 0 {
		h.decide(h.model.messages[one(names, d.a)], one([]string{"commit", "commit", "rollback"}, d.b), d.c)
	}
}

func (h *history) lateStep(d draws) {
	if names := h.sorted(func(*message) bool { return true }); len(names) > 0 {
		h.decide(h.model.messages[one(names, d.a)], one([]string{"commit", "rollback"}, d.b), d.c)
	}
}

// contestStep has two producers decide a transaction at the same moment.
func (h *history) contestStep(d draws) {
	names := h.sorted(func(msg *message) bool { return msg.may&open != 0 })
	if len(names) == 0 {
		return
	}
	msg, verdicts := h.model.messages[one(names, d.a)], []string{"commit", "rollback"}
	first, second := verdicts[d.b%2], verdicts[d.c%2]
	one, other := h.producer(d.b>>8), h.producer(d.c>>8)
	h.say("%s says %s and %s says %s of %s", one.name, first, other.name, second, msg.name)
	one.verdict(0, msg.name, first)
	other.verdict(0, msg.name, second)
	h.done(first, msg)
	h.done(second, msg)
}

// decide has a producer say what became of the transaction, or an operator.
func (h *history) decide(msg *message, verdict string, n uint32) {
	if n%4 > 0 {
		c := h.producer(n)
		h.say("%s says %s of %s", c.name, verdict, msg.name)
		c.verdict(0, msg.name, verdict)
		h.done(verdict, msg)
		return
	}
	h.say("an operator says %s of %s", verdict, msg.name)
	id, _ := kite.ParseMessageID(idOf(msg.name))
	kind, wanted := kite.KindCommit, committed
	if verdict == "rollback" {
		kind, wanted = kite.KindRollback, rolledBack
	}
	ok := h.order(kite.Record{Kind: kind, ID: id, Body: kite.AppendNote(nil, "ann", "")})
	h.done(verdict, msg)
	if !h.journal.dead.Load() && ok != (msg.may == wanted) {
		h.model.check(false, "P3: %s of %s is answered %v, and it is %04b", verdict, msg.name, ok, msg.may)
	}
}

// order gives the lane one item and returns whether it was done.
func (h *history) order(r kite.Record) bool {
	done, err := h.lane.Do(h.t.Context(), kite.Item{Record: r, Outcome: kite.OutcomeCommitted})
	return err == nil && done.Verdict == kite.OK
}

// replyStep answers a check.
func (h *history) replyStep(d draws) {
	if len(h.questions) == 0 {
		return
	}
	slices.SortStableFunc(h.questions, compareDeliveries)
	i := int(d.a) % len(h.questions)
	ask := h.questions[i]
	h.questions = slices.Delete(h.questions, i, i+1)
	verdict := one([]string{"commit", "rollback", "unknown"}, d.b)
	h.say("%s answers %s about %s", ask.conn.name, verdict, ask.message.name)
	ask.conn.verdict(ask.opaque, ask.message.name, verdict)
	h.done(verdict, ask.message)
}

func compareDeliveries(a, b *delivery) int {
	return cmp.Or(cmp.Compare(a.message.name, b.message.name), cmp.Compare(a.conn.name, b.conn.name))
}

// ackStep acknowledges some deliveries, nackStep refuses one.
func (h *history) ackStep(d draws) {
	for n := range d.b%4 + 1 {
		if dl := h.unanswered(d.a + n*7); dl != nil {
			h.answer(dl, true)
		}
	}
}

func (h *history) nackStep(d draws) {
	if dl := h.unanswered(d.a); dl != nil {
		h.answer(dl, false)
	}
}

// unanswered picks a delivery that was not answered yet, perhaps in vain: late ones are among them.
func (h *history) unanswered(n uint32) *delivery {
	h.out = slices.DeleteFunc(h.out, func(d *delivery) bool { return h.nowMs()-d.atMs > 1_800_000 })
	if len(h.out) == 0 {
		return nil
	}
	slices.SortStableFunc(h.out, compareDeliveries)
	return one(h.out, n)
}

func (h *history) answer(d *delivery, ok bool) {
	h.drain() // what came before is before
	if h.journal.dead.Load() {
		return
	}
	h.say("%s answers %v to %s", d.conn.name, ok, d.message.name)
	h.out = slices.DeleteFunc(h.out, func(o *delivery) bool { return o == d })
	d.conn.say(protocol.AppendDeliverAck(nil, d.conn.framing, d.opaque, &d.header, ok, "no"))
	if ok {
		h.model.acked(d, h.nowMs())
	}
}

func (h *history) joinStep(d draws) {
	framing := one([]protocol.Framing{protocol.FramingG, protocol.FramingG, protocol.FramingL}, d.b)
	if d.c%5 == 0 {
		h.join(fmt.Sprintf("p-%d", d.a%2), framing)
	} else {
		h.join(one(h.groups(), d.a), framing)
	}
}

func (h *history) leaveStep(d draws) {
	if all := h.connected(""); len(all) > 0 {
		h.leave(one(all, d.a))
	}
}

func (h *history) tickStep(d draws) { h.pass(time.Duration(d.a%4000) * time.Millisecond) }
func (h *history) waitStep(d draws) { h.pass(time.Duration(d.a%200) * time.Second) }

func (h *history) pass(d time.Duration) {
	h.say("%v go by", d)
	<-time.After(d)
}

// crashStep has the broker die where it stands, doomStep at one of its next writes, and stopStep stop. On a
// store that does not outlive its process everybody is disconnected instead.
func (h *history) crashStep(draws) {
	if h.mortal() {
		h.journal.kill()
	}
}

func (h *history) doomStep(d draws) {
	if h.mortal() {
		h.journal.doom(int64(d.a%4)+1, d.b%2 == 0)
	}
}

func (h *history) stopStep(draws) {
	if h.mortal() {
		h.say("the broker stops")
		h.journal.doom(0, false)
		h.revive(h.restart, h.nowMs()+1)
	}
}

func (h *history) mortal() bool {
	if h.backend.crash != nil {
		return true
	}
	for _, name := range h.connected("") {
		h.leave(name)
	}
	return false
}

// direct gives an order about a flow and returns whether it was done: perhaps the broker died right after it.
func (h *history) direct(f *flow, o kite.Action, seq kite.Seq) bool {
	h.drain()
	h.say("an operator says %v %d of %s on %s", o, seq, f.Group, f.Topic)
	n := h.journal.orders.Load()
	ok := h.order(kite.Record{Kind: kite.KindOrder, Topic: f.Topic, Group: []byte(f.Group), Seq: seq, Body: kite.AppendOrder(nil, &kite.Order{Action: o})})
	if !ok && !h.journal.dead.Load() {
		h.model.check(false, "%v %d of %s on %s is refused", o, seq, f.Group, f.Topic)
	}
	return ok || h.journal.orders.Load() > n
}

func (h *history) pause(f *flow, paused bool) {
	action := map[bool]kite.Action{true: kite.ActionPause, false: kite.ActionResume}[paused]
	if h.direct(f, action, 0) {
		f.pausedMs = map[bool]int64{true: h.nowMs()}[paused]
	}
}

func (h *history) seekStep(d draws) {
	f := one(h.model.flows, d.a)
	first, next := h.journal.Bounds(f.Topic)
	seq := first + kite.Seq(d.b)%(next-first+1)
	left := h.left(f.Topic, seq)
	if h.direct(f, kite.ActionSeek, seq) {
		h.model.sought(f, int(seq), left)
	}
}

// letterStep has a dead letter delivered again, or discards it.
func (h *history) letterStep(d draws) {
	f := one(h.model.flows, d.a)
	if h.letters[f] == 0 {
		return
	}
	n := kite.Seq(d.b)%h.letters[f] + 1
	action := one([]kite.Action{kite.ActionRequeue, kite.ActionRequeue, kite.ActionDiscard}, d.c)
	all, err := h.lane.Standings(h.t.Context(), f.Topic, f.Group)
	if err != nil || len(all) == 0 || all[0].Letters.Contains(n) {
		return // it is done with
	}
	h.read(kite.DeadStream(f.Topic, f.Group), n, func(r *kite.Record) {
		if msg := h.model.messages[nameOf(r.ID.String())]; r.Seq == n {
			f.mark(h.model, msg.seq).exempt = true
		}
	})
	h.direct(f, action, n)
}
