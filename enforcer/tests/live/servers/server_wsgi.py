"""For gunicorn. Tells in each answer how many requests it handled."""
import itertools

handled = itertools.count(1)


def app(environ, start_response):
    body = b"requests %d\n" % next(handled)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
