"""Two people who want the same name: the chat server on a simulated network, for the explorer.

Shows: a program under exploration returns its main task, a check, and the services of the run. Here these are a network
in memory: no run needs a port, and a run takes as long as its turns. The second person comes some turns later: round
robin gives each its answer in peace, and other orders do not.

Run it:  minisched explore demos/explore_chat.py
Try it:  in a copy of `chat.py`, put a bare `yield` before the line `self.people[name] = person`, and explore it again
"""

from chat import Chat

from minisched import Cancel, Connect, Event, Spawn, Stream, gather, serve
from minisched.lab import SimNet

TURNS = 44  # the delay of the second person: in round robin, the first has its name by then


def main():
    """Return a run with two people who call themselves ada; only one of them may get into the lobby."""
    net, chat, answers = SimNet(latency=(0, 0)), Chat(room_size=10), []

    def person(late):
        for _ in range(late):
            yield
        with (yield Connect(("chat", 7777))) as conn:
            stream = Stream(conn)
            yield stream.read_until(b"name?\n")
            yield stream.write(b"ada\n")
            answers.append((yield stream.read_until(b"\n")))

    def everybody():
        ready = Event()
        server = yield Spawn(serve(chat.visit, "chat", 7777, ready=lambda listener: ready.set(), grace=0))
        yield ready.wait()
        yield from gather(person(0), person(TURNS))
        yield Cancel(server)

    def check():
        welcome = [answer for answer in answers if answer.startswith(b"* You are in lobby")]
        assert len(welcome) == 1, f"{len(welcome)} people are called ada"

    return everybody(), check, net.services()
