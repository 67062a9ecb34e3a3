package handler

import (
	"fmt"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// normalGrowth is how many bytes normalising may add to a payload.
const normalGrowth = 12

// publish validates a message in the order of the interop contract §5.2 and gathers it for the lane. What
// is refused is answered at once.
func (r *read) publish(f *protocol.Frame) {
	var m protocol.MessageView
	if err := m.Decode(f.Payload); err != nil {
		r.malformed(f, err)
		return
	}
	h := r.h
	head := &m.Header
	topic := r.topic(head.Topic)
	if !r.accept(topic) {
		r.reject(f, head, RefusedRate, h.overflow())
		return
	}
	if topic != nil {
		r.tally.receive(topic)
	}
	id, valid := kite.ParseMessageID(head.MessageID)
	nowMs := kite.UnixMs(r.now)
	dueMs, delay := int64(0), ""
	tooMany := head.PropertyCount > h.limits.Properties || head.PropertyBytes > int(h.limits.PropertyBytes)
	if head.HasProperties && !tooMany {
		dueMs, delay = due(head, nowMs)
	}
	normal, alive := normalise(head, nowMs/1000, dueMs/1000)
	held := h.held.Load()
	switch {
	case h.stopping.Load():
		r.reject(f, head, RefusedStopping, h.overflow())
	case held != nil:
		r.reject(f, head, held.why, held.text)
	case topic == nil:
		r.reject(f, head, RefusedTopic, protocol.FeedbackTopic)
	case !r.mayPublish(topic):
		r.reject(f, head, RefusedRight, fmt.Sprintf("%sgroup %s may not publish to topic %s", protocol.FeedbackForbidden, r.s.Group(), topic.name))
	case !valid:
		r.reject(f, head, RefusedID, protocol.FeedbackMessageID)
	case !alive:
		r.reject(f, head, RefusedExpired, protocol.FeedbackExpired)
	case len(f.Payload)+normalGrowth > kite.MaxPayload:
		r.reject(f, head, RefusedSize, fmt.Sprintf("Message Too Large: %d bytes, at most %d", len(f.Payload), kite.MaxPayload-normalGrowth))
	case tooMany:
		r.reject(f, head, RefusedSize, fmt.Sprintf("%s%d of %d bytes, at most %d of %d", protocol.FeedbackProperties, head.PropertyCount, head.PropertyBytes, h.limits.Properties, int(h.limits.PropertyBytes)))
	case len(head.MessageType) > kite.MaxName:
		r.reject(f, head, RefusedSize, fmt.Sprintf("Message Type Too Long: %d bytes, at most %d", len(head.MessageType), kite.MaxName))
	case len(head.GroupID) > kite.MaxName:
		r.reject(f, head, RefusedSize, fmt.Sprintf("Group Id Too Long: %d bytes, at most %d", len(head.GroupID), kite.MaxName))
	case delay != "":
		r.reject(f, head, RefusedDelay, delay)
	case head.Fly && !head.Commit:
		r.reject(f, head, RefusedFly, protocol.FeedbackFlyUncommitted)
	case head.Fly:
		r.answer(f, head, true, protocol.FeedbackFly)
		add(r.flying(), f, &m, topic.name, id, normal)
	default:
		if r.batch == nil {
			r.batch = h.batches.get()
			r.batch.Owner, r.batch.Received = r.s, r.now
		}
		add(r.batch, f, &m, topic.name, id, normal)
		r.batch.Items[len(r.batch.Items)-1].DueMs = dueMs
	}
}

// topic returns the served topic of that name, or nil. Most reads have one.
func (r *read) topic(name []byte) *topic {
	if t := r.tally.topic; t != nil && t.name == string(name) {
		return t
	}
	return (*r.h.topics.Load())[string(name)]
}

// mayPublish tells whether the session's group has the right. The gate is asked once for each run of messages to
// one topic.
func (r *read) mayPublish(t *topic) bool {
	if r.h.gate == nil || r.allowed == t {
		return true
	}
	if !r.h.gate.MayPublish(r.s.Group(), t.name) {
		return false
	}
	r.allowed = t
	return true
}

// flyArena bounds the bytes that fly messages share, but for one that is larger alone: the last of them that
// waits for an answer keeps all.
const flyArena = 64 << 10

// flying returns the batch for the next fly message. It outlives this read: it is not from the pool.
func (r *read) flying() *kite.Batch {
	if r.flies != nil && len(r.flies.Arena) >= flyArena {
		r.fly()
	}
	if r.flies == nil {
		r.flies = new(kite.Batch)
	}
	return r.flies
}

// fly hands over the fly messages that were gathered.
func (r *read) fly() {
	if r.flies != nil {
		r.h.settler.Fly(r.flies.Items)
		r.flies = nil
	}
}

// accept tells whether the accept limit lets the next publish through, which is to t, nil for a topic that is not
// served. The limiter is asked once for the publishes to one topic that follow each other.
func (r *read) accept(t *topic) bool {
	if r.limiter == nil {
		if r.limiter = r.h.limiter.Load(); r.limiter == nil {
			r.tally.accepted++
			return true
		}
		for i := range r.frames {
			switch r.frames[i].Command {
			case protocol.CmdBytesMessage, protocol.CmdStringMessage:
				r.publishes++
			}
		}
		r.ask(t)
	} else if t != r.asked {
		r.limiter.put(r.asked, r.permits)
		r.ask(t)
	}
	r.publishes--
	if r.permits == 0 {
		return false
	}
	r.permits--
	r.tally.accepted++
	return true
}

func (r *read) ask(t *topic) { r.asked, r.permits = t, r.limiter.take(t, r.publishes, r.now) }

// normalise decides the header values that consumers will see; alive is false for an expired message. A message
// that waits lives from when it is due. All times are in seconds.
func normalise(head *protocol.HeaderView, now, due int64) (n protocol.Normal, alive bool) {
	const lifetime = int64(kite.MaxLifetime / 1e9)
	n = protocol.Normal{ExpiredTime: head.ExpiredTime, DeliverLimit: head.DeliverLimit, CreateTime: head.CreateTime, Commit: true}
	if n.CreateTime <= 0 {
		n.CreateTime = now
	}
	if n.DeliverLimit <= 0 || n.DeliverLimit > kite.MaxDeliverLimit {
		n.DeliverLimit = kite.MaxDeliverLimit
	}
	if n.ExpiredTime > 0 && n.ExpiredTime <= now {
		return n, false
	}
	if latest := max(now, due) + lifetime; n.ExpiredTime <= 0 || n.ExpiredTime > latest {
		n.ExpiredTime = latest
	}
	return n, true
}

// add copies the message into the batch: the frame's bytes die with the read.
func add(b *kite.Batch, f *protocol.Frame, m *protocol.MessageView, topic string, id kite.MessageID, n protocol.Normal) {
	arena := b.Arena
	take := func(from int) []byte { return arena[from:len(arena):len(arena)] }
	at := len(arena)
	arena = protocol.AppendNormalised(arena, f.Payload, m, n)
	body := take(at)
	at = len(arena)
	arena = append(arena, m.Header.MessageType...)
	messageType := take(at)
	at = len(arena)
	arena = append(arena, m.Header.GroupID...)
	group := take(at)
	at = len(arena)
	arena = append(arena, m.Header.MessageID...)
	name := take(at)
	b.Arena = arena
	kind := kite.KindMessage
	if !m.Header.Commit {
		kind = kite.KindPrepared
	}
	b.Items = append(b.Items, kite.Item{Opaque: f.Opaque, Name: name, Record: kite.Record{
		Kind: kind, Command: uint8(f.Command), Limit: uint8(n.DeliverLimit), ID: id,
		ExpiresMs: n.ExpiredTime * 1000, Topic: topic, Type: messageType, Group: group, Body: body,
	}})
}

// reject answers a publish false and counts why.
func (r *read) reject(f *protocol.Frame, head *protocol.HeaderView, why Refusal, feedback string) {
	r.h.refused[why].Add(1)
	r.answer(f, head, false, feedback)
}

// overflow is the feedback of whoever should come back later.
func (h *Handler) overflow() string {
	return fmt.Sprintf("%s [%s]", protocol.FeedbackOverflow, h.address)
}

func (r *read) answer(f *protocol.Frame, head *protocol.HeaderView, ok bool, feedback string) {
	r.reply = protocol.AppendStoreAck(r.reply, r.framing, f.Opaque, head.MessageID, ok, feedback)
}

// refuse answers every request of the batch, which the lane did not take.
func (r *read) refuse(code kite.Code) {
	feedback := r.h.overflow()
	if code != kite.Busy {
		feedback = protocol.FeedbackNotStored + "0 " + code.String()
	}
	for i := range r.batch.Items {
		item := &r.batch.Items[i]
		if item.Published() {
			r.h.refused[refusalOf(code)].Add(1)
			r.reply = protocol.AppendStoreAck(r.reply, r.framing, item.Opaque, item.Name, false, feedback)
		} else {
			r.reply = appendReceipt(r.reply, r.s, item, code)
		}
	}
}

// batchPool keeps batches between reads.
type batchPool struct{ pool sync.Pool }

// keepArena bounds what the pool holds on to.
const keepArena = 1 << 20

func (p *batchPool) get() *kite.Batch {
	if b, ok := p.pool.Get().(*kite.Batch); ok {
		return b
	}
	return &kite.Batch{Release: p.put}
}

func (p *batchPool) put(b *kite.Batch) {
	if cap(b.Arena) > keepArena {
		return
	}
	b.Reset()
	p.pool.Put(b)
}
