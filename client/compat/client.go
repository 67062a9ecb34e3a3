package compat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/compat/registry"
)

const (
	// startPatience is how long Start waits for brokers and the registry.
	startPatience = 5 * time.Second
	// bindPause is the pause between attempts to publish bindings.
	bindPause = time.Second
	// closePatience is how long Destroy waits for what is under way.
	closePatience = 10 * time.Second
)

// KiteQClient is a producer, a consumer, or both: one member of a group. Its methods are safe for
// concurrent use.
type KiteQClient struct {
	ctx    context.Context // the constructors' API leaves no other place
	cancel context.CancelFunc
	mock   bool
	// patience is startPatience, but for tests.
	patience time.Duration

	mu       sync.Mutex
	options  client.Options
	bindings []*registry.Binding
	listener IListener
	log      *slog.Logger
	client   *client.Client // nil before Start
	ended    bool
	binding  sync.WaitGroup
}

// NewKiteQClient returns a client of the group that finds its brokers at the URI: "zk://host:port,host:port"
// or "file://path". Nothing happens before Start. The end of ctx is a Destroy.
func NewKiteQClient(ctx context.Context, registryUri, groupId, secretKey string) *KiteQClient {
	return NewKiteQClientWithWarmup(ctx, registryUri, groupId, secretKey, 0)
}

// NewKiteQClientWithWarmup is NewKiteQClient for a member that gets less than its share for the first
// warmingupSec seconds of a connection.
func NewKiteQClientWithWarmup(ctx context.Context, registryUri, groupId, secretKey string, warmingupSec int) *KiteQClient {
	k := &KiteQClient{patience: startPatience, listener: NewKiteQListener(), log: slog.New(slog.DiscardHandler)}
	k.ctx, k.cancel = context.WithCancel(ctx)
	k.options = client.Options{
		ZKHost: registryUri, Group: groupId, SecretKey: secretKey, WarmingUp: time.Duration(warmingupSec) * time.Second,
		Lazy: true,
		// Publishing to a registry file was no error, and did nothing: operators write it.
		BoundElsewhere: strings.HasPrefix(registryUri, "file://"),
	}
	return k
}

// NewMockKiteQClient returns a client for tests: every Send returns nil, and nothing is sent.
func NewMockKiteQClient(registryUri, groupId, secretKey string) *KiteQClient {
	return &KiteQClient{
		mock: true, listener: NewKiteQListener(), log: slog.New(slog.DiscardHandler), cancel: func() {},
		options: client.Options{ZKHost: registryUri, Group: groupId, SecretKey: secretKey},
	}
}

// SetTopics adds topics that will be published to.
func (k *KiteQClient) SetTopics(topics []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.options.Topics = append(slices.Clip(k.options.Topics), topics...)
}

// SetBindings replaces the bindings. Whatever group they name, they are this client's, and their handlers
// are registered with the listener by Start.
func (k *KiteQClient) SetBindings(bindings []*registry.Binding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bindings = slices.Clone(bindings)
}

// SetListener replaces the listener; nil means a new default one.
func (k *KiteQClient) SetListener(listener IListener) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.listener = listener; listener == nil {
		k.listener = NewKiteQListener()
	}
}

// GetListener returns the listener.
func (k *KiteQClient) GetListener() IListener {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listener
}

// SetPreEnv makes the client a member of the group with "-pre" appended, and its bindings are not
// published.
func (k *KiteQClient) SetPreEnv(isPre bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.options.PreEnv = isPre
}

// SetLog says where connection changes and failures go. The original has no such method.
func (k *KiteQClient) SetLog(log *slog.Logger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = log
}

// Start connects, and waits up to 5 seconds for a broker of every topic and for the registry to have
// the bindings. What is not there by then is named in the error, and the client goes on looking for it:
// a program that ignores the error works as soon as it comes. Only after an error of code client.Invalid,
// a bad URI, group, topic or pattern, the client is not started.
func (k *KiteQClient) Start() error {
	if k.mock {
		return nil
	}
	c, topics, err := k.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(k.ctx, k.patience)
	defer cancel()
	bound := k.bind(ctx, c)
	if errors.Is(bound, client.Invalid) {
		k.Destroy()
		return bound
	}
	if bound != nil {
		k.mu.Lock()
		if !k.ended {
			k.binding.Go(func() { k.bindLater(c) })
		}
		k.mu.Unlock()
	}
	return errors.Join(bound, c.Ready(ctx, topics...))
}

// open makes the client, once, and ends it with the constructor's context.
func (k *KiteQClient) open() (c *client.Client, topics []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ended:
		return nil, nil, errDestroyed()
	case k.client != nil:
		return nil, nil, &client.Error{Code: client.Invalid, Op: "start", Err: errors.New("the client was started before: start it once")}
	}
	o := k.options
	o.Log = k.log
	o.CheckListener = k.check
	if c, err = client.Dial(k.ctx, o); err != nil {
		return nil, nil, err
	}
	k.client = c
	context.AfterFunc(k.ctx, k.Destroy)
	for _, b := range k.bindings {
		if b != nil {
			k.listener.RegisteHandler(b)
		}
	}
	return c, o.Topics, nil
}

// bind subscribes to the bindings, and publishes them.
func (k *KiteQClient) bind(ctx context.Context, c *client.Client) error {
	k.mu.Lock()
	bindings := k.bindings
	k.mu.Unlock()
	if len(bindings) == 0 {
		return nil
	}
	all := make([]client.Binding, 0, len(bindings))
	for _, b := range bindings {
		one, err := subscribed(b)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	_, err := c.Subscribe(ctx, all, k.handle)
	return err
}

// bindLater binds as soon as the registry is there.
func (k *KiteQClient) bindLater(c *client.Client) {
	pause := time.NewTimer(bindPause)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-k.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(k.ctx, k.patience)
		err := k.bind(ctx, c)
		cancel()
		if err == nil {
			return
		}
		k.logger().Warn("bindings are not published, trying again", "component", "client", "err", err)
		pause.Reset(bindPause)
	}
}

// subscribed returns the binding as package client has it.
func subscribed(b *registry.Binding) (client.Binding, error) {
	var to client.Binding
	switch {
	case b == nil:
		return to, &client.Error{Code: client.Invalid, Op: "start", Err: errors.New("a binding is nil: leave it out")}
	case b.BindType == registry.BIND_DIRECT:
		to = client.Direct(b.Topic, b.MessageType)
	case b.BindType == registry.BIND_REGX:
		to = client.Regx(b.Topic, b.MessageType)
	case b.BindType == registry.BIND_FANOUT:
		to = client.Fanout(b.Topic)
	default:
		return to, &client.Error{Code: client.Invalid, Op: "start", Err: fmt.Errorf("binding to topic %s: type %d is none of BIND_DIRECT, BIND_REGX, BIND_FANOUT", b.Topic, b.BindType)}
	}
	to.Watermark, to.Durable = b.Watermark, b.Persistent
	return to, nil
}

// Destroy ends the client: what is under way is finished, for up to 10 seconds, and the connections are
// closed. A second Destroy does nothing.
func (k *KiteQClient) Destroy() {
	k.mu.Lock()
	ended, c := k.ended, k.client
	k.ended = true
	k.mu.Unlock()
	if ended {
		return
	}
	if c != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), closePatience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			k.logger().Warn("work was cut off", "component", "client", "err", err)
		}
	}
	k.cancel()
	k.binding.Wait()
}

func (k *KiteQClient) logger() *slog.Logger {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.log
}

// started returns the client, or why there is none.
func (k *KiteQClient) started() (*client.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ended:
		return nil, errDestroyed()
	case k.client == nil:
		return nil, &client.Error{Code: client.Invalid, Op: "send", Err: errors.New("the client is not started: call Start first")}
	}
	return k.client, nil
}

func errDestroyed() error {
	return &client.Error{Code: client.Unavailable, Err: errors.New("the client was destroyed")}
}
