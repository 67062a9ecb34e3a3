package client

import (
	"context"
	"fmt"
	"strings"

	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/file"
	"github.com/kiteq/kiteq/registry/zk"
)

// fileScheme begins a ZKHost that is no ensemble but a file.
const fileScheme = "file://"

// session is a registry with the part that keeps it going.
type session interface {
	registry.Registry
	Run(ctx context.Context) error
}

// openRegistry makes a session of the client's own.
func (c *Client) openRegistry() error {
	open := c.openZooKeeper
	if strings.HasPrefix(strings.TrimSpace(c.options.ZKHost), fileScheme) {
		open = c.openFile
	}
	s, err := open()
	if err != nil {
		return fmt.Errorf("connect to registry: %w", err)
	}
	c.registry = s
	c.parts.run(func(ctx context.Context) {
		if err := s.Run(ctx); err != nil && ctx.Err() == nil {
			c.options.Log.Error("the registry session ended", "component", "client", "err", err)
		}
	})
	return nil
}

func (c *Client) openZooKeeper() (session, error) {
	options, err := zk.ParseURL(c.options.ZKHost)
	if err != nil {
		return nil, err
	}
	return zk.Connect(options, c.options.Log)
}

func (c *Client) openFile() (session, error) {
	options, err := file.ParseURL(c.options.ZKHost)
	if err != nil {
		return nil, err
	}
	return file.Open(options, c.options.Log)
}
