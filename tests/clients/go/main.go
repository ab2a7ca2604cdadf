// Go nano's own client, benchmark/io.Connector, against a running peer over TCP.
// usage: go run . <port> (no pushes in the dictionary: a Connector knows none)
//
// A Connector takes messages of protobuf; the raw handlers of the peer take any bytes.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lonng/nano/benchmark/io"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const deadline = 5 * time.Second

func check(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func next(what string, arrived <-chan []byte) []byte {
	select {
	case body := <-arrived:
		return body
	case <-time.After(deadline):
		fail("%s: nothing after %v", what, deadline)
		return nil
	}
}

func text(s string) proto.Message {
	return wrapperspb.String(s)
}

type client struct{ *io.Connector }

func (c client) send(route string, message proto.Message) <-chan []byte {
	reply := make(chan []byte, 1)
	err := c.Request(route, message, func(data interface{}) { reply <- data.([]byte) })
	check(err, route)
	return reply
}

func (c client) request(route string, message proto.Message) []byte {
	return next("reply of "+route, c.send(route, message))
}

func (c client) events(route string) <-chan []byte {
	arrived := make(chan []byte, 16)
	c.On(route, func(data interface{}) { arrived <- data.([]byte) })
	return arrived
}

func bytesOf(message proto.Message) []byte {
	encoded, err := proto.Marshal(message)
	check(err, "encoding")
	return encoded
}

func main() {
	if len(os.Args) != 2 {
		fail("usage: go run . <port>")
	}
	c := client{io.NewConnector()}
	connected := make(chan []byte, 1)
	c.OnConnected(func() { connected <- nil })
	echoed, broadcast := c.events("onEcho"), c.events("onBroadcast")
	check(c.Start("127.0.0.1:"+os.Args[1]), "connecting")
	next("handshake", connected)

	echo := func(s string) {
		if got := c.request("Echo.Echo", text(s)); !bytes.Equal(got, bytesOf(text(s))) {
			fail("an echo of %d bytes is another of %d", len(s), len(got))
		}
	}
	echo("hello wörld")
	echo(strings.Repeat("x", 60000))
	var pipelined []<-chan []byte
	for n := 0; n < 100; n++ {
		pipelined = append(pipelined, c.send("Echo.Echo", text(fmt.Sprint("request ", n))))
	}
	for n, reply := range pipelined {
		if want := bytesOf(text(fmt.Sprint("request ", n))); !bytes.Equal(next("a pipelined reply", reply), want) {
			fail("request %d has the reply of another", n)
		}
	}

	check(c.Notify("Echo.Sink", text("into nowhere")), "notify")
	check(c.Notify("Echo.Push", text("pushed")), "notify")
	if got := next("push", echoed); !bytes.Equal(got, bytesOf(text("pushed"))) {
		fail("another push: %q", got)
	}
	// A reply without a body is an error to its decoder.
	c.request("Grp.Join", text("joined"))
	check(c.Notify("Grp.Send", text("to all")), "notify")
	if got := next("broadcast", broadcast); !bytes.Equal(got, bytesOf(text("to all"))) {
		fail("another broadcast: %q", got)
	}

	for route, code := range map[string]string{"Nope.Nope": "NANO-404", "T.Err": "T-ERR", "T.Panic": "NANO-500"} {
		reply := &structpb.Struct{}
		check(reply.UnmarshalJSON(c.request(route, text(""))), "error reply of "+route)
		if got := reply.Fields["code"].GetStringValue(); got != code {
			fail("%s: %s, not %s", route, got, code)
		}
	}
	// It answers no heartbeats, so that it is closed after two intervals unless it sends something.
	for n := 0; n < 8; n++ {
		time.Sleep(500 * time.Millisecond)
		echo("still here")
	}
	fmt.Println("ok: Go nano's connector")
}
