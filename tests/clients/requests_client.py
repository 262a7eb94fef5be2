"""Python's requests against the service: `requests_client.py URL`."""

import sys

import requests

URL = sys.argv[1]


def one_connection(client):
    """Whether everything that was asked went over one connection."""
    pools = client.get_adapter(URL).poolmanager.pools
    [pool] = [pools[key] for key in pools.keys()]
    return pool.num_connections == 1


def main():
    with requests.Session() as client:
        page = client.get(f"{URL}/", timeout=30)
        assert page.status_code == 200 and "<title>Baiwan</title>" in page.text, page.text

        head = client.head(f"{URL}/", timeout=30)
        assert head.headers["content-length"] == str(len(page.content)) and head.content == b"", head.headers

        for number in range(50):
            text = f"text {number} " + "t" * number * 100
            assert client.post(f"{URL}/echo", data=text, timeout=30).text == f"Echo: {text}"

        # A generator makes requests send chunks.
        pieces = [bytes([ord("a") + number % 26]) * 10_000 for number in range(100)]
        answer = client.post(f"{URL}/echo", data=iter(pieces), stream=True, timeout=30)
        received = b"".join(answer.iter_content(4096))
        assert received == b"Echo: " + b"".join(pieces), len(received)

        created = client.post(f"{URL}/api/users", json={"name": "requests"}, timeout=30)
        assert created.status_code == 201, created.text
        user = client.get(f"{URL}{created.headers['location']}", timeout=30).json()
        assert user == created.json() and user["name"] == "requests", user

        assert client.get(f"{URL}/nowhere", timeout=30).status_code == 404
        assert one_connection(client), "keep-alive did not hold"


main()
