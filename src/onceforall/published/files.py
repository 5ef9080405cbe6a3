"""The authors' files: their addresses, and their git object ids to verify downloads.

An object id is the sha1 of `b"blob SIZE\\0"` and the content, so files can be verified without having seen them. One supernet,
ofa_resnet50, is not in that repository but on the Hugging Face Hub, which states its sha256.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby

from ..errors import ModelError
from .weights import NAMES, network_name

COMMIT = "a7c9bcd525e17404968bc55aa43772bf7e51909e"  # July 2023, the latest one
ADDRESS = f"https://raw.githubusercontent.com/han-cai/files/{COMMIT}/ofa"
ON_HUB = {"ofa_resnet50": ("han-cai/ofa", "ofa_supernet_resnet50")}  # repository and file
SUPERNETS = 3  # at the start of the list of files
LICENSE = "mit"  # of all files


@dataclass(frozen=True)
class PublishedFile:
    """A file of the authors' repository.

    Args:
        path: in the repository, under `ofa`.
        git: object id.
    """

    path: str
    git: str

    @property
    def url(self) -> str:
        """Its address at the commit of the object id."""
        return f"{ADDRESS}/{self.path}"


def published_name(name: str) -> str:
    """The name of one of the four supernets or 50 specialized networks, in the spelling of `published_files`.

    Args:
        name: the authors' name, possibly with `_` for `.` and `@` for `-`; or a supernet's name in torch.hub.

    Raises:
        ModelError: an unknown name; lists similar ones.
    """
    plain, dashes = network_name(name), name.replace("@", "-")
    if plain in NAMES or dashes in SPECIALIZED:
        return plain if plain in NAMES else dashes
    near = ", ".join(get_close_matches(dashes, [*NAMES, *SPECIALIZED], 3, 0.5))
    known = f"the supernets are {', '.join(NAMES)}; of the {len(SPECIALIZED)} specialized ones, one is {next(iter(SPECIALIZED))}"
    raise ModelError(f"'ofa:{name}': the authors published no such network: {f'did you mean {near}?' if near else known}")


def published_files(name: str) -> tuple[PublishedFile, ...]:
    """The weights of a supernet, or `init`, `net.config` and `run.config` of a specialized network; none for networks `ON_HUB`.

    Args:
        name: as returned by `published_name`.
    """
    return SPECIALIZED.get(name) or tuple(f for f in FILES if network_name(f.path.removeprefix("ofa_nets/")) == name)


TREE = """
55d835981d8acd1053657a951b18887a724ddcbf ofa_nets/ofa_mbv3_d234_e346_k357_w1.0
d75a3613bae216091f61fc4b7df77d49cc82ed32 ofa_nets/ofa_mbv3_d234_e346_k357_w1.2
c97035a7a6fe611508f3bb35ffac0ef77262f5e0 ofa_nets/ofa_proxyless_d234_e346_k357_w1.3
8becd78218e459d1e2b4cf658b3a6c86d3cd948b ofa_specialized/1080ti_gpu64-12ms_top1-72.6_finetune-25/init
de1ea5be396d1f30bf4e7511c908f07fee9c65ee ofa_specialized/1080ti_gpu64-12ms_top1-72.6_finetune-25/net.config
ecc6f7ee3acb0949a1a7ecd7d7ea34ec4b5bbaf6 ofa_specialized/1080ti_gpu64-12ms_top1-72.6_finetune-25/run.config
4f90641c4c30d3c1a91048c002fd4e1a03c5fb43 ofa_specialized/1080ti_gpu64-15ms_top1-73.8_finetune-25/init
abd478346b1ed8daaa30fecfb25cef8cb5454867 ofa_specialized/1080ti_gpu64-15ms_top1-73.8_finetune-25/net.config
83c43fe1e2961e2196804cdeb8ee2d73f76991d0 ofa_specialized/1080ti_gpu64-15ms_top1-73.8_finetune-25/run.config
1bcaaaa9a7a9f1d9729d2781cedf85403830250a ofa_specialized/1080ti_gpu64-22ms_top1-75.3_finetune-25/init
98dd04290a8c3782c7a4e26c6535dda8781cd464 ofa_specialized/1080ti_gpu64-22ms_top1-75.3_finetune-25/net.config
73bbadab03b982d2d351ca20e0bd8b334f397642 ofa_specialized/1080ti_gpu64-22ms_top1-75.3_finetune-25/run.config
f8b8c3cef79650d3055e750881b97e23a68fd1f9 ofa_specialized/1080ti_gpu64-27ms_top1-76.4_finetune-25/init
8fb205cdf211fc3d9c4d6fddeada514db257e26a ofa_specialized/1080ti_gpu64-27ms_top1-76.4_finetune-25/net.config
73bbadab03b982d2d351ca20e0bd8b334f397642 ofa_specialized/1080ti_gpu64-27ms_top1-76.4_finetune-25/run.config
a36eefdd6e501cd7a1424c16160c922012e03938 ofa_specialized/LG-G8_lat-11ms_top1-73.0_finetune-25/init
270d4d5e68be7d7a4c7151b589a7a99c3801c968 ofa_specialized/LG-G8_lat-11ms_top1-73.0_finetune-25/net.config
453fb8e8f9c96e9c16ba69f32581bc825ec91d00 ofa_specialized/LG-G8_lat-11ms_top1-73.0_finetune-25/run.config
349a4299dd2eafaa02b0fd73e14892a0e051da16 ofa_specialized/LG-G8_lat-16ms_top1-74.7_finetune-25/init
15844ab308d2e9d1e28cb6df9091678bff143f61 ofa_specialized/LG-G8_lat-16ms_top1-74.7_finetune-25/net.config
a3e6e9c6a764d5053eff7f6c713576a0f05b4d6c ofa_specialized/LG-G8_lat-16ms_top1-74.7_finetune-25/run.config
a37d6b882f2a50136b08b5a84a346fb008d429ba ofa_specialized/LG-G8_lat-24ms_top1-76.4_finetune-25/init
15844ab308d2e9d1e28cb6df9091678bff143f61 ofa_specialized/LG-G8_lat-24ms_top1-76.4_finetune-25/net.config
17d01f65666cd49c60e4dfcf6b3d57092278d5cc ofa_specialized/LG-G8_lat-24ms_top1-76.4_finetune-25/run.config
3565c294c0cfb8880320d38cc24831b844633e2e ofa_specialized/LG-G8_lat-8ms_top1-71.1_finetune-25/init
dd2da7b065115f8efe387163df9b171e2596084b ofa_specialized/LG-G8_lat-8ms_top1-71.1_finetune-25/net.config
83c43fe1e2961e2196804cdeb8ee2d73f76991d0 ofa_specialized/LG-G8_lat-8ms_top1-71.1_finetune-25/run.config
0251122c525589638549ae1e648c14d7fd86bdef ofa_specialized/cpu_lat-10ms_top1-71.1_finetune-25/init
9f27d15200109eee6ed5121a9442be4dbd24f89d ofa_specialized/cpu_lat-10ms_top1-71.1_finetune-25/net.config
83c43fe1e2961e2196804cdeb8ee2d73f76991d0 ofa_specialized/cpu_lat-10ms_top1-71.1_finetune-25/run.config
3ee2308aee3bd654e99aa8259180abc9df17a963 ofa_specialized/cpu_lat-11ms_top1-72.0_finetune-25/init
89ad91f7f7b68e84bc359a5a05b6b88ff1f7d15b ofa_specialized/cpu_lat-11ms_top1-72.0_finetune-25/net.config
83c43fe1e2961e2196804cdeb8ee2d73f76991d0 ofa_specialized/cpu_lat-11ms_top1-72.0_finetune-25/run.config
d811764be71b0e72462f058ff8d80ace61314461 ofa_specialized/cpu_lat-15ms_top1-74.6_finetune-25/init
301882aff9babc84c6fd7802f0ac8098db7cfdca ofa_specialized/cpu_lat-15ms_top1-74.6_finetune-25/net.config
73bbadab03b982d2d351ca20e0bd8b334f397642 ofa_specialized/cpu_lat-15ms_top1-74.6_finetune-25/run.config
4845dd2d5e11083a4683ff45bb2043d0f29f21a4 ofa_specialized/cpu_lat-17ms_top1-75.7_finetune-25/init
458687af2aa68d5419efe6465850142a560a9226 ofa_specialized/cpu_lat-17ms_top1-75.7_finetune-25/net.config
3e52cfaf46f9652325956888649103c3ac8ef3df ofa_specialized/cpu_lat-17ms_top1-75.7_finetune-25/run.config
a491cd8b2e522b91df16e889363f259c815a8a99 ofa_specialized/flops-389M_top1-79.1_finetune-75/init
2c27b7b22502e1c395cff742ba4e59c1c2d66d54 ofa_specialized/flops-389M_top1-79.1_finetune-75/net.config
c59937a1657de1b68d8d8283b37bcc151922479d ofa_specialized/flops-389M_top1-79.1_finetune-75/run.config
d66293783a13fbe791b235966033911a947eed66 ofa_specialized/flops-482M_top1-79.6_finetune-75/init
02283e6122a380c68b975293eb3e4509e36d4a9d ofa_specialized/flops-482M_top1-79.6_finetune-75/net.config
c59937a1657de1b68d8d8283b37bcc151922479d ofa_specialized/flops-482M_top1-79.6_finetune-75/run.config
74f66317154302487bfec9874d35b7350863ace9 ofa_specialized/flops-595M_top1-80.0_finetune-75/init
ca6ab86ce7a126235cae03fcdbecb6c099d546df ofa_specialized/flops-595M_top1-80.0_finetune-75/net.config
93474ea0075fb9f8640e04a6989cd8a7ee6f37b9 ofa_specialized/flops-595M_top1-80.0_finetune-75/run.config
3660246fd7e24716786b1febb22d3aa396c428ad ofa_specialized/note10_lat-11ms_top1-73.6_finetune-25/init
b18d48c19fd4fa38444fa1a02efd1383fa98e343 ofa_specialized/note10_lat-11ms_top1-73.6_finetune-25/net.config
a3e6e9c6a764d5053eff7f6c713576a0f05b4d6c ofa_specialized/note10_lat-11ms_top1-73.6_finetune-25/run.config
90c101fef89c5f58b23cb621599065ad7770e771 ofa_specialized/note10_lat-16ms_top1-75.5_finetune-25/init
a4f8d3c702e992f9bba02721f39d48cc5815b419 ofa_specialized/note10_lat-16ms_top1-75.5_finetune-25/net.config
d9ea469502967547bb6785593ef4f717a6f20c90 ofa_specialized/note10_lat-16ms_top1-75.5_finetune-25/run.config
d647e1125400fa8ed75f0e481be5663d7e5254c5 ofa_specialized/note10_lat-22ms_top1-76.6_finetune-25/init
151988a16392c5dfe288629e1aae045233d28c49 ofa_specialized/note10_lat-22ms_top1-76.6_finetune-25/net.config
c59937a1657de1b68d8d8283b37bcc151922479d ofa_specialized/note10_lat-22ms_top1-76.6_finetune-25/run.config
70aaa409274c7864a8fcd2f6d80d8e61e01af9ef ofa_specialized/note10_lat-30ms_top1-78.4_finetune-75/init
f56f86fbf6a67a79921cc0beec6171d36a31e232 ofa_specialized/note10_lat-30ms_top1-78.4_finetune-75/net.config
c59937a1657de1b68d8d8283b37bcc151922479d ofa_specialized/note10_lat-30ms_top1-78.4_finetune-75/run.config
5032bf2bc9cd2b5bb5ac4167dd4ab37c7cb2d155 ofa_specialized/note10_lat-41ms_top1-79.3_finetune-75/init
7bc73227b648ffd84148e8870852b836bf99adef ofa_specialized/note10_lat-41ms_top1-79.3_finetune-75/net.config
17d01f65666cd49c60e4dfcf6b3d57092278d5cc ofa_specialized/note10_lat-41ms_top1-79.3_finetune-75/run.config
da7fc6ef89e5f1c1168e8e45d337c9e125ea2c7c ofa_specialized/note10_lat-50ms_top1-79.7_finetune-75/init
e83d0a97b4b39ec2ea91bcf6403cecd8704a10c0 ofa_specialized/note10_lat-50ms_top1-79.7_finetune-75/net.config
17d01f65666cd49c60e4dfcf6b3d57092278d5cc ofa_specialized/note10_lat-50ms_top1-79.7_finetune-75/run.config
c13ac2c5ac80b8f2dc0d48cad3889f70e3387344 ofa_specialized/note10_lat-64ms_top1-80.2_finetune-75/init
e8164dd5bdd25afdd5ce8b485312f186f92c8d12 ofa_specialized/note10_lat-64ms_top1-80.2_finetune-75/net.config
fe869d0b0806fe2693437e35429fe8096f6ae871 ofa_specialized/note10_lat-64ms_top1-80.2_finetune-75/run.config
cef8ecaa6b586ff10e7b1da9472de551bbc721d2 ofa_specialized/note10_lat-8ms_top1-71.4_finetune-25/init
5b8545c2929ca0910a700b1c10dfd805a0483b19 ofa_specialized/note10_lat-8ms_top1-71.4_finetune-25/net.config
3638c3b3bcc5bb70894aa8763805f8c1ed26c05b ofa_specialized/note10_lat-8ms_top1-71.4_finetune-25/run.config
1fd23920efb3b81ccfe27075858c13c90885d6e0 ofa_specialized/note8_lat-22ms_top1-70.4_finetune-25/init
ad259944fd078990c896a76f5f1aade34ea74b43 ofa_specialized/note8_lat-22ms_top1-70.4_finetune-25/net.config
e8d4e21e38dc79a04515b33c898fb97542066ad2 ofa_specialized/note8_lat-22ms_top1-70.4_finetune-25/run.config
42e5edb058cc562a5082dcdebaa7780785b9ef01 ofa_specialized/note8_lat-31ms_top1-72.8_finetune-25/init
8293c309607b0cf9f5d16d4a9fa02bbfd9d07fd6 ofa_specialized/note8_lat-31ms_top1-72.8_finetune-25/net.config
c6bcd653a188ef9eaac834893d6c67823c8aa4cd ofa_specialized/note8_lat-31ms_top1-72.8_finetune-25/run.config
5829f38efe2c637aa81aa7b89f9295dfbbfc38a3 ofa_specialized/note8_lat-49ms_top1-74.9_finetune-25/init
9402b5f20081bbcffd360003d7832085070bb6f0 ofa_specialized/note8_lat-49ms_top1-74.9_finetune-25/net.config
a3e6e9c6a764d5053eff7f6c713576a0f05b4d6c ofa_specialized/note8_lat-49ms_top1-74.9_finetune-25/run.config
d8d225b36dbd09819e4933e43810514a0b19c16e ofa_specialized/note8_lat-65ms_top1-76.1_finetune-25/init
c00aeb892e7144adcf3f418d149d9b268a5207bd ofa_specialized/note8_lat-65ms_top1-76.1_finetune-25/net.config
85c2d135023f2cb8d19c857e214d0292f22456dd ofa_specialized/note8_lat-65ms_top1-76.1_finetune-25/run.config
2fdda5ddbaf361aa30a98ab15684355f12362f1e ofa_specialized/pixel1_lat-132ms_top1-79.8_finetune-75/init
16ad030db7a7661fb3e5b4e5f256ee5482ae192e ofa_specialized/pixel1_lat-132ms_top1-79.8_finetune-75/net.config
661877439fe61c26ba298eba79c53f244f31e503 ofa_specialized/pixel1_lat-132ms_top1-79.8_finetune-75/run.config
e03d86e6bca8193bee5eaa9cdda09beb3e6801b4 ofa_specialized/pixel1_lat-143ms_top1-80.1_finetune-75/init
4a8a838a8f230524cb0f310142e36d1a62a0ad72 ofa_specialized/pixel1_lat-143ms_top1-80.1_finetune-75/net.config
5e1129afb706a05ac151ba09f289d245ec2d6039 ofa_specialized/pixel1_lat-143ms_top1-80.1_finetune-75/run.config
f5dcf6cfdea068a07e18e8314cc8def03f1c470b ofa_specialized/pixel1_lat-20ms_top1-71.4_finetune-25/init
ad259944fd078990c896a76f5f1aade34ea74b43 ofa_specialized/pixel1_lat-20ms_top1-71.4_finetune-25/net.config
c6bcd653a188ef9eaac834893d6c67823c8aa4cd ofa_specialized/pixel1_lat-20ms_top1-71.4_finetune-25/run.config
9d5aa0329527f0d01db59f4c6061cbdc09441137 ofa_specialized/pixel1_lat-28ms_top1-73.3_finetune-25/init
1e2cb37685e88ed7cfdb94dc3915bf8b9dc8b253 ofa_specialized/pixel1_lat-28ms_top1-73.3_finetune-25/net.config
3638c3b3bcc5bb70894aa8763805f8c1ed26c05b ofa_specialized/pixel1_lat-28ms_top1-73.3_finetune-25/run.config
eefe43e31f6f2e503ae846ad0ffefaea69afd66b ofa_specialized/pixel1_lat-40ms_top1-74.9_finetune-25/init
9402b5f20081bbcffd360003d7832085070bb6f0 ofa_specialized/pixel1_lat-40ms_top1-74.9_finetune-25/net.config
8b770baf8207a607f9059526c3a6c99d5ce356bf ofa_specialized/pixel1_lat-40ms_top1-74.9_finetune-25/run.config
5db41035eb4b039d66e0e76414693a0e25e98b55 ofa_specialized/pixel1_lat-58ms_top1-76.9_finetune-75/init
15844ab308d2e9d1e28cb6df9091678bff143f61 ofa_specialized/pixel1_lat-58ms_top1-76.9_finetune-75/net.config
17d01f65666cd49c60e4dfcf6b3d57092278d5cc ofa_specialized/pixel1_lat-58ms_top1-76.9_finetune-75/run.config
ada835c866cce4c32177e4858d90c5a5af047729 ofa_specialized/pixel1_lat-79ms_top1-78.7_finetune-75/init
9251487da1fe9050f13334e398d912107de41cb0 ofa_specialized/pixel1_lat-79ms_top1-78.7_finetune-75/net.config
c59937a1657de1b68d8d8283b37bcc151922479d ofa_specialized/pixel1_lat-79ms_top1-78.7_finetune-75/run.config
ce46987466c090fa2cf44970d8a0aa0ba1a9898d ofa_specialized/pixel2_lat-25ms_top1-71.5_finetune-25/init
aaf1fe30dab7e410197021d0d427add412cae961 ofa_specialized/pixel2_lat-25ms_top1-71.5_finetune-25/net.config
83c43fe1e2961e2196804cdeb8ee2d73f76991d0 ofa_specialized/pixel2_lat-25ms_top1-71.5_finetune-25/run.config
10034f4f9841d0ad84df80397ce209379ea1fd8f ofa_specialized/pixel2_lat-35ms_top1-73.4_finetune-25/init
f02336d33bc0c1439480057a0a353c36ec4bab96 ofa_specialized/pixel2_lat-35ms_top1-73.4_finetune-25/net.config
3638c3b3bcc5bb70894aa8763805f8c1ed26c05b ofa_specialized/pixel2_lat-35ms_top1-73.4_finetune-25/run.config
105af510fa34ba04347c0900a76fe28a826b7190 ofa_specialized/pixel2_lat-50ms_top1-74.7_finetune-25/init
f32d670de3fed5f5ebf9f926f30ffde6a93dfaf1 ofa_specialized/pixel2_lat-50ms_top1-74.7_finetune-25/net.config
3e52cfaf46f9652325956888649103c3ac8ef3df ofa_specialized/pixel2_lat-50ms_top1-74.7_finetune-25/run.config
3169bb1f3419a8956b668fc50ce902263f1d704f ofa_specialized/pixel2_lat-62ms_top1-75.8_finetune-25/init
15844ab308d2e9d1e28cb6df9091678bff143f61 ofa_specialized/pixel2_lat-62ms_top1-75.8_finetune-25/net.config
3e52cfaf46f9652325956888649103c3ac8ef3df ofa_specialized/pixel2_lat-62ms_top1-75.8_finetune-25/run.config
46a4c1e9a84260c8a8dc6219381b2d16559c7208 ofa_specialized/s7edge_lat-29ms_top1-70.5_finetune-25/init
d5790f583f5cbc287898b4f11fa6e84291b9e183 ofa_specialized/s7edge_lat-29ms_top1-70.5_finetune-25/net.config
83c43fe1e2961e2196804cdeb8ee2d73f76991d0 ofa_specialized/s7edge_lat-29ms_top1-70.5_finetune-25/run.config
4b36096bc51380ea553aac4f15e27b09192f73e5 ofa_specialized/s7edge_lat-41ms_top1-73.1_finetune-25/init
1a5da1264d28dd773e8c1afb508eb5de841e54e9 ofa_specialized/s7edge_lat-41ms_top1-73.1_finetune-25/net.config
3638c3b3bcc5bb70894aa8763805f8c1ed26c05b ofa_specialized/s7edge_lat-41ms_top1-73.1_finetune-25/run.config
8312da2e84978896ecaf60be5191a954ee9e47be ofa_specialized/s7edge_lat-58ms_top1-74.7_finetune-25/init
b63837de36c61e6382753725398623ad082523c7 ofa_specialized/s7edge_lat-58ms_top1-74.7_finetune-25/net.config
d9ea469502967547bb6785593ef4f717a6f20c90 ofa_specialized/s7edge_lat-58ms_top1-74.7_finetune-25/run.config
6a21e982ca8a366c291cf5e27337013b2901c753 ofa_specialized/s7edge_lat-88ms_top1-76.3_finetune-25/init
b4a24b725aa75c6faa66dc6507e6db075608852c ofa_specialized/s7edge_lat-88ms_top1-76.3_finetune-25/net.config
d9ea469502967547bb6785593ef4f717a6f20c90 ofa_specialized/s7edge_lat-88ms_top1-76.3_finetune-25/run.config
991f2e489a8e6608a606667ec5c6cb1cde7b0b86 ofa_specialized/tx2_gpu16-35ms_top1-70.3_finetune-25/init
e29bf3ffb60ccfcf6c62779677f150f9ad1eba3d ofa_specialized/tx2_gpu16-35ms_top1-70.3_finetune-25/net.config
355e799082a52b00588bdce48e23996f460eec98 ofa_specialized/tx2_gpu16-35ms_top1-70.3_finetune-25/run.config
c1ef62450e37f74da9313ef2907f4ccf584bb747 ofa_specialized/tx2_gpu16-47ms_top1-72.9_finetune-25/init
458687af2aa68d5419efe6465850142a560a9226 ofa_specialized/tx2_gpu16-47ms_top1-72.9_finetune-25/net.config
4ca072a8022c4381a552702dfe90c22942166c63 ofa_specialized/tx2_gpu16-47ms_top1-72.9_finetune-25/run.config
c6e3184c5f38450fea5cf917fce10f6f61b2c223 ofa_specialized/tx2_gpu16-80ms_top1-75.4_finetune-25/init
98dd04290a8c3782c7a4e26c6535dda8781cd464 ofa_specialized/tx2_gpu16-80ms_top1-75.4_finetune-25/net.config
8dd3209f751363f6773d66ed311e317dfd57338f ofa_specialized/tx2_gpu16-80ms_top1-75.4_finetune-25/run.config
40e07f5f03b698820224183c8ef85cabdb1ec61e ofa_specialized/tx2_gpu16-96ms_top1-75.8_finetune-25/init
f75eeefcdbf022dc557ee6f0748d4a8971335b89 ofa_specialized/tx2_gpu16-96ms_top1-75.8_finetune-25/net.config
48bd8c3457bd80bdb44f686c6e90822ca3b361f1 ofa_specialized/tx2_gpu16-96ms_top1-75.8_finetune-25/run.config
3c1652ee1f41b4baca5f3048dd6746fd0957989e ofa_specialized/v100_gpu64-11ms_top1-76.1_finetune-25/init
c0554446680e3b676dede5664961a43d4ccd7eb6 ofa_specialized/v100_gpu64-11ms_top1-76.1_finetune-25/net.config
d9ea469502967547bb6785593ef4f717a6f20c90 ofa_specialized/v100_gpu64-11ms_top1-76.1_finetune-25/run.config
9c2e352636c5e8ebfd3353f3a9373f4cdaf8bf9a ofa_specialized/v100_gpu64-5ms_top1-71.6_finetune-25/init
98dd04290a8c3782c7a4e26c6535dda8781cd464 ofa_specialized/v100_gpu64-5ms_top1-71.6_finetune-25/net.config
355e799082a52b00588bdce48e23996f460eec98 ofa_specialized/v100_gpu64-5ms_top1-71.6_finetune-25/run.config
0457bceb815bc00f1048261e11eceac25f4b3d2c ofa_specialized/v100_gpu64-6ms_top1-73.0_finetune-25/init
458687af2aa68d5419efe6465850142a560a9226 ofa_specialized/v100_gpu64-6ms_top1-73.0_finetune-25/net.config
4ca072a8022c4381a552702dfe90c22942166c63 ofa_specialized/v100_gpu64-6ms_top1-73.0_finetune-25/run.config
918cd410c05492790fb370bc3f0f1852994e2262 ofa_specialized/v100_gpu64-9ms_top1-75.3_finetune-25/init
98dd04290a8c3782c7a4e26c6535dda8781cd464 ofa_specialized/v100_gpu64-9ms_top1-75.3_finetune-25/net.config
8dd3209f751363f6773d66ed311e317dfd57338f ofa_specialized/v100_gpu64-9ms_top1-75.3_finetune-25/run.config
"""
FILES = tuple(PublishedFile(path, git) for git, path in map(str.split, TREE.strip().split("\n")))
SPECIALIZED = {folder: tuple(files) for folder, files in groupby(FILES[SUPERNETS:], lambda file: file.path.split("/")[1])}
