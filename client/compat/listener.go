package compat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/compat/protocol"
	"github.com/kiteq/kiteq/client/compat/registry"
)

// IListener is what a program does with what brokers send it. Its methods are called concurrently.
type IListener interface {
	// OnMessage takes a delivery; false, or a panic, refuses it, and it comes again.
	OnMessage(msg *protocol.QMessage) bool
	// OnMessageCheck answers, by tx, what became of a prepared message. Without an answer, and after an
	// error or a panic, the answer is Unknown.
	OnMessageCheck(tx *protocol.TxResponse) error
	// RegisteHandler adds a binding's handler.
	RegisteHandler(bind *registry.Binding) IListener
	// AddMiddleWares sets what is put around handlers.
	AddMiddleWares(mw ...MiddleWare) IListener
}

// Context is one message on its way through the middlewares to its handler, and the outcome: taken when
// Success is true and Err is nil.
type Context struct {
	Msg     *protocol.QMessage
	Err     error
	Success bool
}

// Chain is a handler with the middlewares around it, or a part of that.
type Chain func(ctx *Context) error

// MiddleWare puts something around a Chain.
type MiddleWare func(next Chain) Chain

// Handler handles the body of one message, a string or a []byte.
type Handler func(body interface{}) (bool, error)

// errRefused is what a listener's plain false means.
var errRefused = errors.New("the listener refused the message")

// KiteQListener is the default listener: it gives each message to the handler of the first binding
// that matches it.
type KiteQListener struct {
	mu       sync.RWMutex
	bindings []*registry.Binding
	chain    Chain
}

var (
	_ IListener = (*KiteQListener)(nil)
	_ IListener = (*MockListener)(nil)
)

// NewKiteQListener returns a listener without handlers.
func NewKiteQListener() *KiteQListener {
	l := &KiteQListener{}
	l.chain = l.run
	return l
}

// RegisteHandler adds the binding if it has a handler, once.
func (l *KiteQListener) RegisteHandler(bind *registry.Binding) IListener {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bind != nil && bind.Handler != nil && !slices.Contains(l.bindings, bind) {
		l.bindings = append(slices.Clip(l.bindings), bind)
	}
	return l
}

// AddMiddleWares replaces the middlewares. The last one is outermost.
func (l *KiteQListener) AddMiddleWares(mw ...MiddleWare) IListener {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chain = l.run
	for _, m := range mw {
		l.chain = m(l.chain)
	}
	return l
}

// OnMessage runs the handler within the middlewares. It is false when nobody takes the message.
func (l *KiteQListener) OnMessage(msg *protocol.QMessage) bool { return l.take(msg) == nil }

// take is OnMessage with the reason.
func (l *KiteQListener) take(msg *protocol.QMessage) error {
	l.mu.RLock()
	chain := l.chain
	l.mu.RUnlock()
	ctx := &Context{Msg: msg}
	switch err := chain(ctx); {
	case err != nil:
		return err
	case ctx.Err != nil:
		return ctx.Err
	case !ctx.Success:
		return errRefused
	}
	return nil
}

// run is the end of the chain.
func (l *KiteQListener) run(ctx *Context) error {
	topic, messageType := ctx.Msg.GetHeader().GetTopic(), ctx.Msg.GetHeader().GetMessageType()
	l.mu.RLock()
	all := l.bindings
	l.mu.RUnlock()
	i := slices.IndexFunc(all, func(b *registry.Binding) bool { return b.Matches(topic, messageType) })
	if i < 0 {
		ctx.Err = fmt.Errorf("no handler for topic %s, type %s", topic, messageType)
		return ctx.Err
	}
	ctx.Success, ctx.Err = all[i].Handler(ctx.Msg.GetBody())
	return ctx.Err
}

// OnMessageCheck answers Unknown: nobody can tell without looking. The original's committed.
func (l *KiteQListener) OnMessageCheck(tx *protocol.TxResponse) error {
	tx.Unknown("the default listener does not know")
	return nil
}

// MockListener takes every message and decides no check.
type MockListener struct{}

// OnMessage takes the message.
func (l *MockListener) OnMessage(*protocol.QMessage) bool { return true }

// OnMessageCheck answers Unknown.
func (l *MockListener) OnMessageCheck(tx *protocol.TxResponse) error {
	tx.Unknown("a mock does not know")
	return nil
}

// RegisteHandler does nothing.
func (l *MockListener) RegisteHandler(*registry.Binding) IListener { return l }

// AddMiddleWares does nothing.
func (l *MockListener) AddMiddleWares(...MiddleWare) IListener { return l }

// handle gives a delivery to the listener.
func (k *KiteQClient) handle(_ context.Context, d *client.Delivery) error {
	listener := k.GetListener()
	// Only of the default listener itself: who embeds it may have an OnMessage of their own.
	if l, ok := listener.(*KiteQListener); ok {
		return l.take(received(d))
	}
	if !listener.OnMessage(received(d)) {
		return errRefused
	}
	return nil
}

// check asks the listener about a prepared message.
func (k *KiteQClient) check(_ context.Context, c client.Check) client.Verdict {
	tx := protocol.NewTxResponse(header(c.ID, c.Topic, c.Type, k.options.Group, c.Properties))
	if err := k.GetListener().OnMessageCheck(tx); err != nil {
		k.logger().Warn("the listener could not answer a check", "component", "client", "topic", c.Topic, "msg_id", c.ID, "err", err)
		return client.Unknown
	}
	status, feedback := tx.Answer()
	verdict := client.Verdict(status)
	if verdict != client.Commit {
		k.logger().Info("a check was answered", "component", "client", "topic", c.Topic, "msg_id", c.ID, "verdict", verdict.String(), "feedback", feedback)
	}
	return verdict
}
