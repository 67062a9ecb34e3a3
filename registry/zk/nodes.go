package zk

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

var (
	errOver  = errors.New("the session is over")
	errTaken = errors.New("the node was created by somebody else meanwhile")
)

// parallel is how many requests of one task are under way together; the library queues 16.
const parallel = 8

// transient tells whether err comes from the connection, so that the same request may work on the next.
func transient(err error) bool {
	for _, lost := range []error{
		zk.ErrConnectionClosed, zk.ErrNoServer, zk.ErrSessionExpired, zk.ErrSessionMoved, zk.ErrClosing,
		errOver, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded)
}

// explain gives an answer of the server its code and says what to do about it.
func explain(err error) error {
	switch {
	case errors.Is(err, zk.ErrNoAuth):
		return kite.Errorf(kite.Unauthorized, "%w: the node's ACL does not admit us, give the digest user:password that it names", err)
	case errors.Is(err, zk.ErrInvalidPath):
		return kite.Errorf(kite.Invalid, "%w: a topic, group or host has a character that no znode may have", err)
	}
	return err
}

// ask makes one request of the library, which knows no context, so that ctx and the end of the session
// end the wait. The goroutine ends with the answer, with the connection, or when the handle is closed.
// A request that was not waited for may still have been carried out.
func ask[T any](ctx context.Context, s *session, request func(*zk.Conn) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := request(s.conn)
		answers <- answer{value, err}
	}()
	var none T
	select {
	case a := <-answers:
		return a.value, a.err
	case <-s.over:
		return none, errOver
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// ensure makes the persistent node and those above it. A node that exists is as good as one made.
func (s *session) ensure(ctx context.Context, path string) error {
	if err := s.ensureNode(ctx, s.root+path); !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	for _, above := range registry.Ancestors(s.root + path) {
		if err := s.ensureNode(ctx, above); err != nil {
			return err
		}
	}
	return s.ensureNode(ctx, s.root+path)
}

func (s *session) ensureNode(ctx context.Context, full string) error {
	path, _ := strings.CutPrefix(full, s.root)
	if len(full) <= len(s.root) {
		path = "" // of the chroot
	}
	acl := s.acls.of(path)
	_, err := ask(ctx, s, func(c *zk.Conn) (string, error) {
		// Looked at first: a refused creation costs the ensemble a logged transaction.
		if found, _, err := c.Exists(full); err != nil || found {
			return full, err
		}
		return c.Create(full, []byte{}, zk.FlagPersistent, acl)
	})
	if err != nil && !errors.Is(err, zk.ErrNodeExists) {
		return err
	}
	if path == "" { // of the chroot: it may be others', too
		return nil
	}
	return s.protect(ctx, full, acl)
}

// ensureTopics makes the persistent nodes of the topics.
func (s *session) ensureTopics(ctx context.Context, topics []string) error {
	for _, path := range []string{registry.RootNode, registry.TopicsDir, registry.PubDir, registry.SubDir, registry.AliveDir, registry.KnownDir} {
		if err := s.ensure(ctx, path); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, topic := range topics {
		group.Go(func() error {
			for _, path := range registry.Persistent(topic) {
				if err := s.ensure(ctx, path); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// plant makes the ephemeral node. It succeeds when the node is already of this session, for an earlier
// attempt may have been carried out and its answer lost, and fails with errTaken when it is another's.
func (s *session) plant(ctx context.Context, path string) error {
	_, err := ask(ctx, s, func(c *zk.Conn) (string, error) {
		return c.Create(s.root+path, []byte{}, zk.FlagEphemeral, s.acls.of(path))
	})
	if !errors.Is(err, zk.ErrNodeExists) {
		return err
	}
	owner, found, err := s.owner(ctx, path)
	if err == nil && (!found || owner != s.id) {
		return errTaken
	}
	return err
}

// owner returns the session that an ephemeral node belongs to, 0 for a persistent one.
func (s *session) owner(ctx context.Context, path string) (id int64, found bool, err error) {
	stat, err := ask(ctx, s, func(c *zk.Conn) (*zk.Stat, error) {
		found, stat, err := c.Exists(s.root + path)
		if err != nil || !found {
			return nil, err
		}
		return stat, nil
	})
	if err != nil || stat == nil {
		return 0, false, err
	}
	return stat.EphemeralOwner, true, nil
}

// remove deletes the node, whoever made it, and tells whether there was one.
func (s *session) remove(ctx context.Context, path string) (bool, error) {
	_, err := ask(ctx, s, func(c *zk.Conn) (struct{}, error) {
		return struct{}{}, c.Delete(s.root+path, -1)
	})
	if errors.Is(err, zk.ErrNoNode) {
		return false, nil
	}
	return err == nil, err
}

// put writes the data of a persistent node, which it makes when missing.
func (s *session) put(ctx context.Context, path string, data []byte) error {
	set := func() error {
		_, err := ask(ctx, s, func(c *zk.Conn) (*zk.Stat, error) { return c.Set(s.root+path, data, -1) })
		return err
	}
	create := func() error {
		_, err := ask(ctx, s, func(c *zk.Conn) (string, error) {
			return c.Create(s.root+path, data, zk.FlagPersistent, s.acls.of(path))
		})
		return err
	}
	for {
		err := set()
		if !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		above := registry.Ancestors(path)
		if err := s.ensure(ctx, above[len(above)-1]); err != nil {
			return err
		}
		// Between the two others may create or delete it; each time somebody makes progress.
		if err := create(); !errors.Is(err, zk.ErrNodeExists) && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
}

// listed is what a list request found; nodes that do not exist have no children.
type listed struct {
	exists   bool
	children []string // sorted
	sinceMs  int64    // when the node was created, by the server's clock, Unix ms; 0 when it does not exist
}

// list returns the children of the node. With watch it hears of the next change, also of the node's
// creation when it does not exist.
func (s *session) list(ctx context.Context, path string, watch bool) (listed, error) {
	return ask(ctx, s, func(c *zk.Conn) (listed, error) {
		for {
			var children []string
			var stat *zk.Stat
			var err error
			if watch {
				children, stat, _, err = c.ChildrenW(s.root + path)
			} else {
				children, stat, err = c.Children(s.root + path)
			}
			if err == nil {
				slices.Sort(children)
				return listed{exists: true, children: children, sinceMs: stat.Ctime}, nil
			}
			if !errors.Is(err, zk.ErrNoNode) || !watch {
				return listed{}, ignoreNoNode(err)
			}
			// No watch was set on a node that is missing. One for its creation has to be, and it may
			// have been created before that.
			if found, _, _, err := c.ExistsW(s.root + path); err != nil || !found {
				return listed{}, err
			}
		}
	})
}

// leaf is the data of a node.
type leaf struct {
	exists  bool
	data    []byte
	sinceMs int64 // when the node was created, by the server's clock, Unix ms
}

// read returns the data of the node. With watch it hears of the next change, unless the node is missing.
func (s *session) read(ctx context.Context, path string, watch bool) (leaf, error) {
	return ask(ctx, s, func(c *zk.Conn) (leaf, error) {
		var data []byte
		var stat *zk.Stat
		var err error
		if watch {
			data, stat, _, err = c.GetW(s.root + path)
		} else {
			data, stat, err = c.Get(s.root + path)
		}
		if err != nil {
			return leaf{}, ignoreNoNode(err)
		}
		return leaf{exists: true, data: data, sinceMs: stat.Ctime}, nil
	})
}

func ignoreNoNode(err error) error {
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return err
}
