"""The game server's composition root."""

from gameserver.documents import Documents
from gameserver.records import Claim, claim_generation
from gameserver.server import GameServer
from runtime.mesh.api import Mesh
from runtime.mesh.open import open_mesh
from runtime.service import Service
from runtime.store.access import serve_store
from runtime.store.api import Store
from runtime.store.format import agree


async def start(service: Service) -> None:
    """A real one: joins the mesh to reach the store, rises to the generation it finds there, serves."""
    mesh = await open_mesh(service, role="gameserver", node_id=service.node_id, generation=None, publishes_state=True)
    store = await serve_store(service, mesh)
    await begin(service, mesh, store)
    service.ready(command=mesh.me.command, state=mesh.me.state)


async def begin(service: Service, mesh: Mesh, store: Store) -> GameServer:
    """Agree on the world, claim a generation (both wait for the store), build, run. Simulations hand in their own mesh
    and store. Raises StartRefused."""
    agreed = await agree(store, service.settings.world_seed)
    documents = Documents(service, store, agreed, life=mesh.me.nonce)
    life = await claim(documents, mesh)
    server = build(service, mesh, documents, life)
    server.run()
    server.observer.tell_load()
    mesh.update_me(status="ready")
    return server


async def claim(documents: Documents, mesh: Mesh) -> Claim:
    """Claim a generation in the store and go on in the mesh as that one. Claims again where the mesh, told of a former
    life meanwhile, has risen above the claim."""
    while True:
        life = await claim_generation(documents, mesh.me.id, at_least=mesh.me.generation)
        if life.generation >= mesh.me.generation:
            mesh.rise(life.generation)
            return life


def build(service: Service, mesh: Mesh, documents: Documents, life: Claim) -> GameServer:
    """All parts, wired; nothing runs yet but the state side's tick."""
    documents.begin_generation(life.generation)
    return GameServer(service, mesh, documents, life)
