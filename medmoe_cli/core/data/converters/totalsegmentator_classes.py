"""The class lists of TotalSegmentator, in the order of their values from 1.

Source: wasserth/TotalSegmentator, class_map of map_to_binary.py ("total_v1", "total", "total_mr"). The MR releases hold
classes that its list does not; what is in no list is appended in alphabetical order, and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CT_V1 = _names("""
    spleen kidney_right kidney_left gallbladder liver stomach aorta inferior_vena_cava portal_vein_and_splenic_vein
    pancreas adrenal_gland_right adrenal_gland_left lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right
    lung_middle_lobe_right lung_lower_lobe_right vertebrae_L5 vertebrae_L4 vertebrae_L3 vertebrae_L2 vertebrae_L1
    vertebrae_T12 vertebrae_T11 vertebrae_T10 vertebrae_T9 vertebrae_T8 vertebrae_T7 vertebrae_T6 vertebrae_T5
    vertebrae_T4 vertebrae_T3 vertebrae_T2 vertebrae_T1 vertebrae_C7 vertebrae_C6 vertebrae_C5 vertebrae_C4
    vertebrae_C3 vertebrae_C2 vertebrae_C1 esophagus trachea heart_myocardium heart_atrium_left heart_ventricle_left
    heart_atrium_right heart_ventricle_right pulmonary_artery brain iliac_artery_left iliac_artery_right
    iliac_vena_left iliac_vena_right small_bowel duodenum colon rib_left_1 rib_left_2 rib_left_3 rib_left_4
    rib_left_5 rib_left_6 rib_left_7 rib_left_8 rib_left_9 rib_left_10 rib_left_11 rib_left_12 rib_right_1
    rib_right_2 rib_right_3 rib_right_4 rib_right_5 rib_right_6 rib_right_7 rib_right_8 rib_right_9 rib_right_10
    rib_right_11 rib_right_12 humerus_left humerus_right scapula_left scapula_right clavicula_left clavicula_right
    femur_left femur_right hip_left hip_right sacrum face gluteus_maximus_left gluteus_maximus_right
    gluteus_medius_left gluteus_medius_right gluteus_minimus_left gluteus_minimus_right autochthon_left
    autochthon_right iliopsoas_left iliopsoas_right urinary_bladder
""")
"""104 classes of the CT release 1."""

CT_V2 = _names("""
    spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
    lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right
    esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left
    kidney_cyst_right sacrum vertebrae_S1 vertebrae_L5 vertebrae_L4 vertebrae_L3 vertebrae_L2 vertebrae_L1
    vertebrae_T12 vertebrae_T11 vertebrae_T10 vertebrae_T9 vertebrae_T8 vertebrae_T7 vertebrae_T6 vertebrae_T5
    vertebrae_T4 vertebrae_T3 vertebrae_T2 vertebrae_T1 vertebrae_C7 vertebrae_C6 vertebrae_C5 vertebrae_C4
    vertebrae_C3 vertebrae_C2 vertebrae_C1 heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right
    subclavian_artery_left common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left
    brachiocephalic_vein_right atrial_appendage_left superior_vena_cava inferior_vena_cava
    portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right humerus_left
    humerus_right scapula_left scapula_right clavicula_left clavicula_right femur_left femur_right hip_left
    hip_right spinal_cord gluteus_maximus_left gluteus_maximus_right gluteus_medius_left gluteus_medius_right
    gluteus_minimus_left gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain
    skull rib_left_1 rib_left_2 rib_left_3 rib_left_4 rib_left_5 rib_left_6 rib_left_7 rib_left_8 rib_left_9
    rib_left_10 rib_left_11 rib_left_12 rib_right_1 rib_right_2 rib_right_3 rib_right_4 rib_right_5 rib_right_6
    rib_right_7 rib_right_8 rib_right_9 rib_right_10 rib_right_11 rib_right_12 sternum costal_cartilages
""")
"""117 classes of the CT release 2."""

MR = _names("""
    spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
    lung_left lung_right esophagus small_bowel duodenum colon urinary_bladder prostate sacrum vertebrae
    intervertebral_discs spinal_cord heart aorta inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left
    iliac_artery_right iliac_vena_left iliac_vena_right humerus_left humerus_right scapula_left scapula_right
    clavicula_left clavicula_right femur_left femur_right hip_left hip_right gluteus_maximus_left
    gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left gluteus_minimus_right
    autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain
""")
"""50 classes of the MR model."""

SCHEMES: Mapping[str, tuple[str, ...]] = {"v2": CT_V2, "v1": CT_V1, "mr": MR}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassOrder:
    """Which value stands for which class.

    Attributes:
        scheme: the list that fits best.
        values: class name to value, as the list numbers them; names of no list follow.
        unlisted: names that the list does not have.
        absent: names of the list that were not found.
    """

    scheme: str
    values: dict[str, int]
    unlisted: tuple[str, ...]
    absent: tuple[str, ...]


def order_of(names: Iterable[str], modality: str) -> ClassOrder:
    """The order of the classes that a release has files for.

    The list is the one that names most of them; where several do, that of the newer release.
    """
    found = set(names)
    candidates = ("mr",) if modality == "MR" else ("v2", "v1")
    scheme = max(candidates, key=lambda name: len(found.intersection(SCHEMES[name])))
    listed = SCHEMES[scheme]
    unlisted = tuple(sorted(found.difference(listed)))
    values = {name: value for value, name in enumerate(listed, start=1) if name in found}
    values |= {name: value for value, name in enumerate(unlisted, start=len(listed) + 1)}
    absent = tuple(name for name in listed if name not in found)
    return ClassOrder(scheme=scheme, values=values, unlisted=unlisted, absent=absent)
